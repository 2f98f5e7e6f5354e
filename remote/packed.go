package remote

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"github.com/sockerless/sockerless"
)

// packed is a container on its way: it is read as a container. Of Config and HostConfig, whose structs have over a hundred
// fields, it has those that are set, since a list of many containers is mostly these.
type packed struct {
	*sockerless.Container
	Config, HostConfig fieldsSet
}

func pack(c *sockerless.Container) *packed {
	if c == nil {
		return nil
	}
	return &packed{Container: c, Config: fieldsSet{c.Config}, HostConfig: fieldsSet{c.HostConfig}}
}

// fieldsSet is a pointer to a struct, as JSON without its zero fields.
type fieldsSet struct{ to any }

// MarshalJSON writes the fields that are set; what they have in them is whole.
func (f fieldsSet) MarshalJSON() ([]byte, error) {
	v := reflect.ValueOf(f.to)
	if v.IsNil() {
		return []byte("null"), nil
	}
	v = v.Elem()
	out := []byte{'{'}
	for _, field := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(field.index)
		if value.IsZero() {
			continue
		}
		b, err := json.Marshal(value.Interface())
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, field.key...), b...)
	}
	return append(out, '}'), nil
}

type jsonField struct {
	key   string // quoted, with its colon
	index []int
}

var structs sync.Map // reflect.Type -> []jsonField

// fieldsOf returns the fields of a struct as encoding/json names them, those of embedded structs among them.
func fieldsOf(t reflect.Type) []jsonField {
	if f, ok := structs.Load(t); ok {
		return f.([]jsonField)
	}
	var fields []jsonField
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields = append(fields, jsonField{`"` + name + `":`, f.Index})
	}
	structs.Store(t, fields)
	return fields
}
