package gguf

import (
	"fmt"
	"math"
)

// Value returns the value of a key as it lies in the file.
func (f *File) Value(key string) (any, bool) {
	i, ok := f.kvIndex[key]
	if !ok {
		return nil, false
	}
	return f.KVs[i].Value, true
}

func (f *File) wrongType(key string, v any, want string) error {
	return fmt.Errorf("gguf: %s: %s is of type %s, want %s", f.Name, key, typeName(v), want)
}

// Uint returns the value of a key that is a whole number of any width. In this
// and the following methods ok says whether the key is there, and err that it is
// there and of another type.
func (f *File) Uint(key string) (n uint64, ok bool, err error) {
	v, ok := f.Value(key)
	if !ok {
		return 0, false, nil
	}
	var i int64
	switch v := v.(type) {
	case uint8:
		return uint64(v), true, nil
	case uint16:
		return uint64(v), true, nil
	case uint32:
		return uint64(v), true, nil
	case uint64:
		return v, true, nil
	case int8:
		i = int64(v)
	case int16:
		i = int64(v)
	case int32:
		i = int64(v)
	case int64:
		i = v
	default:
		return 0, true, f.wrongType(key, v, "a whole number")
	}
	if i < 0 {
		return 0, true, fmt.Errorf("gguf: %s: %s is %d, want a number that is not negative", f.Name, key, i)
	}
	return uint64(i), true, nil
}

// Float returns the value of a key that is a float32 or float64.
func (f *File) Float(key string) (x float64, ok bool, err error) {
	switch v, ok := f.Value(key); v := v.(type) {
	case nil:
		return 0, ok, nil
	case float32:
		return float64(v), true, nil
	case float64:
		return v, true, nil
	default:
		return 0, true, f.wrongType(key, v, "float32 or float64")
	}
}

// get returns the value of a key that must be a T.
func get[T any](f *File, key, want string) (v T, ok bool, err error) {
	a, ok := f.Value(key)
	if !ok {
		return v, false, nil
	}
	if v, ok = a.(T); !ok {
		return v, true, f.wrongType(key, a, want)
	}
	return v, true, nil
}

// Bool returns the value of a key that is a bool.
func (f *File) Bool(key string) (b, ok bool, err error) { return get[bool](f, key, "bool") }

// String returns the value of a key that is a string.
func (f *File) String(key string) (s string, ok bool, err error) {
	return get[string](f, key, "string")
}

// Strings returns the value of a key that is an array of strings; it must not be changed.
func (f *File) Strings(key string) (a []string, ok bool, err error) {
	return get[[]string](f, key, "array of string")
}

// Floats returns the value of a key that is an array of float32; it must not be changed.
func (f *File) Floats(key string) (a []float32, ok bool, err error) {
	return get[[]float32](f, key, "array of float32")
}

// Ints returns the value of a key that is an array of int32, or of uint32 that
// fit; it must not be changed.
func (f *File) Ints(key string) (a []int32, ok bool, err error) {
	v, ok := f.Value(key)
	u, isUint := v.([]uint32)
	if !isUint {
		return get[[]int32](f, key, "array of int32")
	}
	a = make([]int32, len(u))
	for i, n := range u {
		if n > math.MaxInt32 {
			return nil, true, fmt.Errorf("gguf: %s: %s[%d] is %d, want at most %d", f.Name, key, i, n, math.MaxInt32)
		}
		a[i] = int32(n)
	}
	return a, ok, nil
}
