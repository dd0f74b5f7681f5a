package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// valueType is the number a file gives to the type of a metadata value.
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// valueTypes has the name and the bytes of each value type; 0 bytes: it varies.
var valueTypes = [...]struct {
	name  string
	bytes int
}{
	{"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4}, {"float32", 4},
	{"bool", 1}, {"string", 0}, {"array", 0}, {"uint64", 8}, {"int64", 8}, {"float64", 8},
}

// byteOrder is what both sides need: binary.LittleEndian or binary.BigEndian.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// reader walks over the header of a file. Nothing is allocated before the bytes
// that it would hold are known to be there.
type reader struct {
	data  []byte // the file
	limit int    // the header ends here at the latest
	pos   int
	order byteOrder
}

func (r *reader) left() uint64 { return uint64(r.limit - r.pos) }

// short says that something of the given size does not fit into what is left.
func (r *reader) short(what string) error {
	if r.limit < len(r.data) {
		return fmt.Errorf("%s at byte %d goes past byte %d, where a header must end", what, r.pos, r.limit)
	}
	return fmt.Errorf("%s at byte %d, but only %d bytes are left", what, r.pos, r.left())
}

func (r *reader) uint32() (uint32, error) {
	if r.left() < 4 {
		return 0, r.short("a number of 4 bytes")
	}
	r.pos += 4
	return r.order.Uint32(r.data[r.pos-4:]), nil
}

func (r *reader) uint64() (uint64, error) {
	if r.left() < 8 {
		return 0, r.short("a number of 8 bytes")
	}
	r.pos += 8
	return r.order.Uint64(r.data[r.pos-8:]), nil
}

// skipString moves past a string and returns where its bytes are.
func (r *reader) skipString() (start, end int, err error) {
	n, err := r.uint64()
	if err != nil {
		return 0, 0, err
	}
	if n > r.left() {
		return 0, 0, r.short(fmt.Sprintf("a string of %d bytes", n))
	}
	r.pos += int(n)
	return r.pos - int(n), r.pos, nil
}

func (r *reader) string() (string, error) {
	start, end, err := r.skipString()
	return string(r.data[start:end]), err
}

// value reads a value of type t; depth counts the arrays around it.
func (r *reader) value(t valueType, depth int) (any, error) {
	if t >= valueType(len(valueTypes)) {
		return nil, fmt.Errorf("value type %d is not known", uint32(t))
	}
	switch t {
	case typeString:
		return r.string()
	case typeArray:
		return r.array(depth + 1)
	}
	size := valueTypes[t].bytes
	if uint64(size) > r.left() {
		return nil, r.short("a value of type " + valueTypes[t].name)
	}
	b := r.data[r.pos:]
	r.pos += size
	switch o := r.order; t {
	case typeUint8:
		return b[0], nil
	case typeInt8:
		return int8(b[0]), nil
	case typeUint16:
		return o.Uint16(b), nil
	case typeInt16:
		return int16(o.Uint16(b)), nil
	case typeUint32:
		return o.Uint32(b), nil
	case typeInt32:
		return int32(o.Uint32(b)), nil
	case typeUint64:
		return o.Uint64(b), nil
	case typeInt64:
		return int64(o.Uint64(b)), nil
	case typeFloat32:
		return math.Float32frombits(o.Uint32(b)), nil
	case typeFloat64:
		return math.Float64frombits(o.Uint64(b)), nil
	default:
		return b[0] != 0, nil // bool; ggml writes 0 or 1 and takes every other byte for true
	}
}

func (r *reader) array(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("arrays are nested deeper than %d", maxDepth)
	}
	t32, err := r.uint32()
	if err != nil {
		return nil, err
	}
	t := valueType(t32)
	if t >= valueType(len(valueTypes)) {
		return nil, fmt.Errorf("array element type %d is not known", t32)
	}
	n, err := r.uint64()
	if err != nil {
		return nil, err
	}
	size := uint64(valueTypes[t].bytes)
	switch t { // the least that one element takes
	case typeString:
		size = 8
	case typeArray:
		size = 12
	}
	if n > r.left()/size {
		return nil, r.short(fmt.Sprintf("an array of %d × %s", n, valueTypes[t].name))
	}
	switch t {
	case typeString:
		return r.strings(int(n))
	case typeArray:
		var a []any
		for range n {
			v, err := r.array(depth + 1)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		if a == nil {
			a = []any{}
		}
		return a, nil
	}
	b := r.data[r.pos:][:n*size]
	r.pos += len(b)
	switch o := r.order; t {
	case typeUint8:
		return decode(b, 1, func(b []byte) uint8 { return b[0] }), nil
	case typeInt8:
		return decode(b, 1, func(b []byte) int8 { return int8(b[0]) }), nil
	case typeUint16:
		return decode(b, 2, o.Uint16), nil
	case typeInt16:
		return decode(b, 2, func(b []byte) int16 { return int16(o.Uint16(b)) }), nil
	case typeUint32:
		return decode(b, 4, o.Uint32), nil
	case typeInt32:
		return decode(b, 4, func(b []byte) int32 { return int32(o.Uint32(b)) }), nil
	case typeUint64:
		return decode(b, 8, o.Uint64), nil
	case typeInt64:
		return decode(b, 8, func(b []byte) int64 { return int64(o.Uint64(b)) }), nil
	case typeFloat32:
		return decode(b, 4, func(b []byte) float32 { return math.Float32frombits(o.Uint32(b)) }), nil
	case typeFloat64:
		return decode(b, 8, func(b []byte) float64 { return math.Float64frombits(o.Uint64(b)) }), nil
	default:
		return decode(b, 1, func(b []byte) bool { return b[0] != 0 }), nil
	}
}

func decode[T any](b []byte, size int, get func([]byte) T) []T {
	a := make([]T, len(b)/size)
	for i := range a {
		a[i] = get(b[i*size:])
	}
	return a
}

// strings reads n strings. Their bytes are copied once, together, after all of
// their lengths have been checked.
func (r *reader) strings(n int) ([]string, error) {
	first := r.pos
	for range n {
		if _, _, err := r.skipString(); err != nil {
			return nil, err
		}
	}
	text := string(r.data[first:r.pos])
	a := make([]string, n)
	for i, p := 0, 0; i < n; i++ {
		length := int(r.order.Uint64(r.data[first+p:]))
		p += 8 + length
		a[i] = text[p-length : p]
	}
	return a, nil
}

// valueTypeOf returns the type of a value in a file, for arrays that of the
// elements too; ok is false when a file cannot hold it.
func valueTypeOf(v any) (t, element valueType, ok bool) {
	switch v.(type) {
	case uint8:
		return typeUint8, 0, true
	case int8:
		return typeInt8, 0, true
	case uint16:
		return typeUint16, 0, true
	case int16:
		return typeInt16, 0, true
	case uint32:
		return typeUint32, 0, true
	case int32:
		return typeInt32, 0, true
	case uint64:
		return typeUint64, 0, true
	case int64:
		return typeInt64, 0, true
	case float32:
		return typeFloat32, 0, true
	case float64:
		return typeFloat64, 0, true
	case bool:
		return typeBool, 0, true
	case string:
		return typeString, 0, true
	case []uint8:
		return typeArray, typeUint8, true
	case []int8:
		return typeArray, typeInt8, true
	case []uint16:
		return typeArray, typeUint16, true
	case []int16:
		return typeArray, typeInt16, true
	case []uint32:
		return typeArray, typeUint32, true
	case []int32:
		return typeArray, typeInt32, true
	case []uint64:
		return typeArray, typeUint64, true
	case []int64:
		return typeArray, typeInt64, true
	case []float32:
		return typeArray, typeFloat32, true
	case []float64:
		return typeArray, typeFloat64, true
	case []bool:
		return typeArray, typeBool, true
	case []string:
		return typeArray, typeString, true
	case []any:
		return typeArray, typeArray, true
	}
	return 0, 0, false
}

// typeName names the type of a metadata value for a message.
func typeName(v any) string {
	t, element, ok := valueTypeOf(v)
	switch {
	case !ok:
		return fmt.Sprintf("%T", v)
	case t == typeArray:
		return "array of " + valueTypes[element].name
	}
	return valueTypes[t].name
}

// appendKV appends a key with its value as a file holds them.
func appendKV(b []byte, o byteOrder, kv KV) ([]byte, error) {
	if err := checkKey(kv.Key); err != nil {
		return b, err
	}
	t, _, ok := valueTypeOf(kv.Value)
	if !ok {
		return b, fmt.Errorf("key %s: a value of Go type %T cannot be written", quote(kv.Key), kv.Value)
	}
	b = appendString(b, o, kv.Key)
	b = o.AppendUint32(b, uint32(t))
	b, err := appendValue(b, o, kv.Value, 0)
	if err != nil {
		return b, fmt.Errorf("key %s: %w", quote(kv.Key), err)
	}
	return b, nil
}

func appendString(b []byte, o byteOrder, s string) []byte {
	return append(o.AppendUint64(b, uint64(len(s))), s...)
}

func appendValue(b []byte, o byteOrder, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case uint8:
		return append(b, v), nil
	case int8:
		return append(b, uint8(v)), nil
	case uint16:
		return o.AppendUint16(b, v), nil
	case int16:
		return o.AppendUint16(b, uint16(v)), nil
	case uint32:
		return o.AppendUint32(b, v), nil
	case int32:
		return o.AppendUint32(b, uint32(v)), nil
	case uint64:
		return o.AppendUint64(b, v), nil
	case int64:
		return o.AppendUint64(b, uint64(v)), nil
	case float32:
		return o.AppendUint32(b, math.Float32bits(v)), nil
	case float64:
		return o.AppendUint64(b, math.Float64bits(v)), nil
	case bool:
		if v {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case string:
		return appendString(b, o, v), nil
	case []uint8:
		return appendArray(b, o, v, depth)
	case []int8:
		return appendArray(b, o, v, depth)
	case []uint16:
		return appendArray(b, o, v, depth)
	case []int16:
		return appendArray(b, o, v, depth)
	case []uint32:
		return appendArray(b, o, v, depth)
	case []int32:
		return appendArray(b, o, v, depth)
	case []uint64:
		return appendArray(b, o, v, depth)
	case []int64:
		return appendArray(b, o, v, depth)
	case []float32:
		return appendArray(b, o, v, depth)
	case []float64:
		return appendArray(b, o, v, depth)
	case []bool:
		return appendArray(b, o, v, depth)
	case []string:
		return appendArray(b, o, v, depth)
	case []any:
		for i, e := range v {
			if t, _, ok := valueTypeOf(e); !ok || t != typeArray {
				return b, fmt.Errorf("element %d of an array of arrays is of type %s", i, typeName(e))
			}
		}
		return appendArray(b, o, v, depth)
	}
	return b, fmt.Errorf("a value of Go type %T cannot be written", v)
}

func appendArray[T any](b []byte, o byteOrder, a []T, depth int) ([]byte, error) {
	if depth++; depth > maxDepth {
		return b, fmt.Errorf("arrays are nested deeper than %d", maxDepth)
	}
	_, element, _ := valueTypeOf(a)
	b = o.AppendUint32(b, uint32(element))
	b = o.AppendUint64(b, uint64(len(a)))
	var err error
	for _, e := range a {
		if b, err = appendValue(b, o, e, depth); err != nil {
			return b, err
		}
	}
	return b, nil
}

func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("a key is empty")
	}
	if len(key) > maxKey {
		return fmt.Errorf("key %s is %d bytes long, at most %d are allowed", quote(key), len(key), maxKey)
	}
	return nil
}

// quote makes a name from a file fit for a message: no control characters, and short.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// FormatDims writes dimensions as 64×512.
func FormatDims(dims []uint64) string {
	var b strings.Builder
	for i, d := range dims {
		if i > 0 {
			b.WriteString("×")
		}
		b.WriteString(strconv.FormatUint(d, 10))
	}
	return b.String()
}
