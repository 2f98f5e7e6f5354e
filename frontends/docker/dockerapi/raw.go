package dockerapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// words is a list of strings that may come as one string.
type words []string

// UnmarshalJSON reads either form.
func (w *words) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// leftOver returns what of create's body the types of Config and HostConfig do not know; nil if they know all of it.
func leftOver(raw json.RawMessage, c *container.Config, h *container.HostConfig) (json.RawMessage, error) {
	body, err := object(raw)
	if err != nil {
		return nil, err
	}
	host, err := object(body["HostConfig"])
	if err != nil {
		return nil, err
	}
	delete(body, "HostConfig")
	delete(body, "NetworkingConfig")
	dropKnown(body, c)
	dropKnown(host, h)
	if len(host) > 0 {
		if body["HostConfig"], err = json.Marshal(host); err != nil {
			return nil, err
		}
	}
	if len(body) == 0 {
		return nil, nil
	}
	return json.Marshal(body)
}

// withUnknown returns a container's Config and HostConfig with the fields of create's body that their types do not
// know, so that a client of another version finds in inspect what it said.
func withUnknown(raw json.RawMessage, c *container.Config, h *container.HostConfig) (config, hostConfig any, err error) {
	body, err := object(raw)
	if err != nil {
		return nil, nil, err
	}
	host, err := object(body["HostConfig"])
	if err != nil {
		return nil, nil, err
	}
	delete(body, "HostConfig")
	delete(body, "NetworkingConfig")
	if config, err = merged(c, body); err != nil {
		return nil, nil, err
	}
	hostConfig, err = merged(h, host)
	return config, hostConfig, err
}

// merged returns v, or v's JSON with the fields of said that v's type does not know.
func merged(v any, said map[string]json.RawMessage) (any, error) {
	if len(said) == 0 {
		return v, nil
	}
	dropKnown(said, v)
	if len(said) == 0 {
		return v, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out, err := object(b)
	if err != nil {
		return nil, err
	}
	for name, value := range said {
		out[name] = value
	}
	return out, nil
}

// dropKnown deletes the fields that v's type knows.
func dropKnown(said map[string]json.RawMessage, v any) {
	known := fieldNames(reflect.TypeOf(v))
	for name := range said {
		if known[strings.ToLower(name)] {
			delete(said, name)
		}
	}
}

func object(b json.RawMessage) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if len(b) == 0 || bytes.Equal(b, []byte("null")) {
		return out, nil
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("cannot read what create was asked for: %w", err)
	}
	return out, nil
}

// fieldNames returns the names by which encoding/json knows the fields of a struct, in lower case: it ignores case, too.
func fieldNames(t reflect.Type) map[string]bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		names[strings.ToLower(name)] = true
	}
	return names
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
