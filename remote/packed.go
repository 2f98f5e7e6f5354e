package remote

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// packed is a pointer to a struct on its way: it is read as that struct. Fields that are not set are left out, since those of
// a container, with what is in them, are over two hundred, and a list of many containers is mostly these.
type packed struct{ to any }

// AppendJSON implements wire.JSONAppender.
func (p packed) AppendJSON(b []byte) ([]byte, error) { return appendPacked(b, reflect.ValueOf(p.to)) }

// appendPacked appends v as JSON, the structs in it without their zero fields. Lists, and what has a form of its own, are whole.
func appendPacked(b []byte, v reflect.Value) ([]byte, error) {
	switch t := v.Type(); {
	case t.Kind() == reflect.Pointer && !v.IsNil() && fieldsOf(t.Elem()) != nil:
		return appendPacked(b, v.Elem())
	case t.Kind() == reflect.Struct && fieldsOf(t) != nil:
		return appendFields(b, v)
	case t.Kind() == reflect.Map && !v.IsNil() && t.Key().Kind() == reflect.String && t.Elem().Kind() == reflect.Pointer && fieldsOf(t.Elem().Elem()) != nil:
		return appendMap(b, v)
	}
	j, err := json.Marshal(v.Interface())
	return append(b, j...), err
}

func appendFields(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	first := len(b)
	for _, field := range fieldsOf(v.Type()) {
		value, err := v.FieldByIndexErr(field.index)
		if err != nil || value.IsZero() {
			continue // an embedded pointer is nil, or the field is not set
		}
		if len(b) > first {
			b = append(b, ',')
		}
		if b, err = appendPacked(append(b, field.key...), value); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	first := len(b)
	for it := v.MapRange(); it.Next(); {
		if len(b) > first {
			b = append(b, ',')
		}
		key, err := json.Marshal(it.Key().Interface())
		if err != nil {
			return b, err
		}
		if b, err = appendPacked(append(append(b, key...), ':'), it.Value()); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

type jsonField struct {
	key   string // quoted, with its colon
	index []int
}

var (
	structs       sync.Map // reflect.Type -> []jsonField
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// fieldsOf returns the fields of a struct as encoding/json names them, those of embedded structs among them; nil if t is no
// struct or has a form of its own.
func fieldsOf(t reflect.Type) []jsonField {
	if t.Kind() != reflect.Struct {
		return nil
	}
	if f, ok := structs.Load(t); ok {
		return f.([]jsonField)
	}
	var fields []jsonField
	if p := reflect.PointerTo(t); !p.Implements(jsonMarshaler) && !p.Implements(textMarshaler) {
		fields = []jsonField{}
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
	}
	structs.Store(t, fields)
	return fields
}
