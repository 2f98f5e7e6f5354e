package engine

import (
	"reflect"
	"sync"
)

// clone makes a deep copy of a container or another noun, so that its readers share nothing with the engine.
func clone[T any](v *T) *T {
	out := new(T)
	copyInto(reflect.ValueOf(out).Elem(), reflect.ValueOf(v).Elem())
	return out
}

// copyInto sets dst to a deep copy of src. Unexported fields are copied as they are: those of times, addresses and
// ports are never changed.
func copyInto(dst, src reflect.Value) {
	s := sharingOf(src.Type())
	if !s.any {
		dst.Set(src)
		return
	}
	switch src.Kind() {
	case reflect.Pointer:
		if !src.IsNil() {
			p := reflect.New(src.Type().Elem())
			copyInto(p.Elem(), src.Elem())
			dst.Set(p)
		}
	case reflect.Slice:
		if !src.IsNil() {
			list := reflect.MakeSlice(src.Type(), src.Len(), src.Len())
			if !sharingOf(src.Type().Elem()).any {
				reflect.Copy(list, src)
			} else {
				for i := range src.Len() {
					copyInto(list.Index(i), src.Index(i))
				}
			}
			dst.Set(list)
		}
	case reflect.Map:
		if !src.IsNil() {
			m := reflect.MakeMapWithSize(src.Type(), src.Len())
			for it := src.MapRange(); it.Next(); {
				v := reflect.New(src.Type().Elem()).Elem()
				copyInto(v, it.Value())
				m.SetMapIndex(it.Key(), v)
			}
			dst.Set(m)
		}
	case reflect.Struct:
		dst.Set(src)
		for _, i := range s.fields {
			if f := src.Field(i); !f.IsZero() {
				copyInto(dst.Field(i), f)
			}
		}
	default: // interfaces: those of a volume's status, which is never set
		dst.Set(src)
	}
}

// sharing is how values of a type share memory when they are assigned.
type sharing struct {
	any    bool
	fields []int // of a struct, the exported ones that do
}

var sharings sync.Map // reflect.Type -> sharing

func sharingOf(t reflect.Type) sharing {
	if s, ok := sharings.Load(t); ok {
		return s.(sharing)
	}
	var s sharing
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		s.any = true
	case reflect.Array:
		s = sharing{any: sharingOf(t.Elem()).any}
	case reflect.Struct: // one that holds itself does so by one of the above
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && sharingOf(f.Type).any {
				s.any, s.fields = true, append(s.fields, i)
			}
		}
	}
	sharings.Store(t, s)
	return s
}
