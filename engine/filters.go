package engine

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sockerless/sockerless"
)

// known refuses filters that mean nothing here: one that is ignored would match everything, and what is then done to
// everything may be a removal.
func known(f sockerless.Filters, keys ...string) error {
	for k := range f {
		if !slices.Contains(keys, k) {
			return sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", k)
		}
	}
	return nil
}

// exact says whether one of the key's values is one of these; without the key everything matches.
func exact(f sockerless.Filters, key string, have ...string) bool {
	want, ok := f[key]
	if !ok || len(want) == 0 {
		return true
	}
	return slices.ContainsFunc(want, func(w string) bool { return slices.Contains(have, w) })
}

// matching is exact with values that are regular expressions, or, if they are none, plain text.
func matching(f sockerless.Filters, key string, have ...string) bool {
	want, ok := f[key]
	if !ok || len(want) == 0 {
		return true
	}
	for _, w := range want {
		re, err := regexp.Compile(w)
		for _, h := range have {
			if h == w || err == nil && re.MatchString(h) {
				return true
			}
		}
	}
	return false
}

// labelled says whether labels have each of the key's values: "name" or "name=value".
func labelled(f sockerless.Filters, key string, labels map[string]string) bool {
	for _, want := range f[key] {
		name, value, hasValue := strings.Cut(want, "=")
		got, ok := labels[name]
		if !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

// boolean reads a filter whose values are true and false.
func boolean(f sockerless.Filters, key string) (value, set bool, err error) {
	values := f[key]
	for _, v := range values {
		switch v {
		case "1", "true":
			value = true
		case "0", "false":
		default:
			return false, false, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s=[%s]'", key, strings.Join(values, " "))
		}
	}
	return value, len(values) > 0, nil
}
