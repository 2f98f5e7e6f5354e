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
	if !refers(src.Type()) {
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
			s := reflect.MakeSlice(src.Type(), src.Len(), src.Len())
			if !refers(src.Type().Elem()) {
				reflect.Copy(s, src)
			} else {
				for i := range src.Len() {
					copyInto(s.Index(i), src.Index(i))
				}
			}
			dst.Set(s)
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
		for i := range src.NumField() {
			if f := dst.Field(i); f.CanSet() && refers(f.Type()) && !src.Field(i).IsZero() {
				copyInto(f, src.Field(i))
			}
		}
	default: // interfaces: those of a volume's status, which is never set
		dst.Set(src)
	}
}

var referTypes sync.Map // reflect.Type -> bool

// refers says whether values of a type share memory when they are assigned.
func refers(t reflect.Type) bool {
	if r, ok := referTypes.Load(t); ok {
		return r.(bool)
	}
	referTypes.Store(t, true) // for types that hold themselves
	r := false
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		r = true
	case reflect.Array:
		r = refers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			r = r || f.IsExported() && refers(f.Type)
		}
	}
	referTypes.Store(t, r)
	return r
}
