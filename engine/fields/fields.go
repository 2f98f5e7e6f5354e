// Package fields is one table: every field that `docker create` may carry, and what becomes of it.
//
// The engine asks [Check] before it creates anything. A field that cannot be honoured is refused by its flag's name with
// the reason, or, where leaving it out changes nothing that a program relies on, it is accepted with a warning. A test
// enumerates Docker's structs, so a field that a new version of the API brings fails the build until it has its row.
// [Markdown] is the same table for people.
package fields

import (
	"reflect"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

// Verdict is what becomes of a field that is given a value of its own.
type Verdict string

// The verdicts.
const (
	Honoured Verdict = "honoured" // it does what it does in Docker
	Warned   Verdict = "warning"  // accepted, without effect, and the create's answer says so
	Inert    Verdict = "inert"    // kept and shown by inspect; Docker on Linux gives it no other effect either
	Refused  Verdict = "refused"  // the create fails and names it
)

// Row is what becomes of one field. Docker's default value always passes.
type Row struct {
	Path    string   // as in Go, below Config, HostConfig or NetworkingConfig; [] is each element. It covers what is below it.
	Flag    string   // of `docker run`; empty: only the API has it
	Verdict Verdict  // of a value that is neither the default nor among Values
	Values  []string // further values that pass; the empty and the zero value always do
	Note    string   // the reason, what happens instead, or what is particular

	showValue bool // the message says --flag=value: for fields whose values differ in meaning
	// judge replaces the verdict for values that need a closer look. An error is EINVALID.
	judge func(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error)
}

// request gives the paths of the table their first element.
type request struct {
	Name, Platform   string
	Config           *container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
}

// Rows returns the table, in the order of Docker's structs.
func Rows() []Row { return slices.Clone(table) }

// Check says whether a container can be created as asked, as far as that does not depend on its image. It wants the
// request as the client sent it, before the image's defaults are merged in. The warnings are for the create's answer. An
// error is EINVALID in Docker's words for what Docker refuses too, else EUNSUPPORTED, naming every field that cannot be
// honoured and the reason.
func Check(req *sockerless.CreateRequest) (warnings []string, err error) {
	if req.Config == nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "config cannot be empty in order to create a container")
	}
	if err := validate(req); err != nil {
		return nil, err
	}
	root := reflect.ValueOf(request{req.Name, req.Platform, req.Config, req.HostConfig, req.NetworkingConfig})
	var refusals []string
	for i := range table {
		row := &table[i]
		for v := range values(root, strings.Split(row.Path, ".")) {
			verdict, text, err := row.verdict(req, v)
			if err != nil {
				return nil, err
			}
			switch verdict {
			case Warned:
				warnings = append(warnings, text)
			case Refused:
				refusals = append(refusals, text)
			}
		}
	}
	older, gone, err := checkOlder(req.Raw)
	if err != nil {
		return nil, err
	}
	warnings, refusals = append(warnings, older...), append(refusals, gone...)
	if err := refuse(refusals); err != nil {
		return nil, err
	}
	return unique(warnings), nil
}

// verdict judges one value and says it in a sentence, where there is something to say.
func (r *Row) verdict(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	verdict, note := r.Verdict, r.Note
	switch {
	case r.judge != nil:
		var err error
		if verdict, note, err = r.judge(req, v); err != nil {
			return "", "", err
		}
		if note == "" {
			note = r.Note
		}
	case empty(v) || slices.Contains(r.Values, text(v)):
		return Honoured, "", nil
	}
	name := r.Flag
	if name == "" {
		name = strings.ReplaceAll(r.Path, "[]", "")
	}
	if r.showValue {
		name += "=" + short(text(v))
	}
	return verdict, sentence(verdict, name, note), nil
}

func sentence(verdict Verdict, name, note string) string {
	switch verdict {
	case Warned:
		return name + " has no effect: " + note
	case Refused:
		return "cannot use " + name + ": " + note
	}
	return ""
}

// refuse makes one error of all refusals, so that nobody has to find them one by one.
func refuse(refusals []string) error {
	if len(refusals) == 0 {
		return nil
	}
	return sockerless.Errorf(sockerless.EUNSUPPORTED, "%s", strings.Join(unique(refusals), "; "))
}

// values yields what is at a path: several for a path with [], none if a pointer on the way is nil.
func values(v reflect.Value, path []string) func(yield func(reflect.Value) bool) {
	return func(yield func(reflect.Value) bool) { walk(v, path, yield) }
}

func walk(v reflect.Value, path []string, yield func(reflect.Value) bool) bool {
	if len(path) == 0 {
		return yield(v)
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return true
		}
		v = v.Elem()
	}
	name, each := strings.CutSuffix(path[0], "[]")
	v = v.FieldByName(name)
	if !each {
		return walk(v, path[1:], yield)
	}
	if v.Kind() == reflect.Map {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(text(a), text(b)) })
		for _, k := range keys {
			if !walk(v.MapIndex(k), path[1:], yield) {
				return false
			}
		}
		return true
	}
	for i := range v.Len() {
		if !walk(v.Index(i), path[1:], yield) {
			return false
		}
	}
	return true
}

// empty says whether v is what a client sends that was told nothing: zero, an empty list, or a pointer to zero.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Pointer:
		return v.IsNil() || empty(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if !empty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
