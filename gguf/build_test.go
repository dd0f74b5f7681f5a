package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
)

// builder makes files by hand, byte by byte and without the package's own
// encoder, so that the two can be compared and any of it can be wrong.
type builder struct {
	bytes.Buffer
	order binary.ByteOrder
}

func build(order binary.ByteOrder, version uint32, nTensors, nKV uint64) *builder {
	b := &builder{order: order}
	b.WriteString("GGUF")
	return b.put(version, nTensors, nKV)
}

// file begins a file of version 3, little-endian.
func file(nTensors, nKV uint64) *builder { return build(binary.LittleEndian, 3, nTensors, nKV) }

// put writes numbers, and strings with their length.
func (b *builder) put(values ...any) *builder {
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.put(uint64(len(s)))
			b.WriteString(s)
		} else if err := binary.Write(b, b.order, v); err != nil {
			panic(err)
		}
	}
	return b
}

// kv writes a key, the number of its type, and what follows.
func (b *builder) kv(key string, typ uint32, values ...any) *builder {
	return b.put(key, typ).put(values...)
}

// value writes a value after the numbers of its types, as valueNumbers has them.
func (b *builder) value(v any) *builder {
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice {
		return b.put(v)
	}
	element := uint32(9)
	if e := r.Type().Elem().Kind(); e != reflect.Interface {
		element = valueNumbers[e]
	}
	b.put(element, uint64(r.Len()))
	for i := range r.Len() {
		b.value(r.Index(i).Interface())
	}
	return b
}

var valueNumbers = map[reflect.Kind]uint32{
	reflect.Uint8: 0, reflect.Int8: 1, reflect.Uint16: 2, reflect.Int16: 3, reflect.Uint32: 4, reflect.Int32: 5,
	reflect.Float32: 6, reflect.Bool: 7, reflect.String: 8, reflect.Slice: 9, reflect.Uint64: 10, reflect.Int64: 11, reflect.Float64: 12,
}

func (b *builder) tensor(name string, typ uint32, offset uint64, dims ...uint64) *builder {
	return b.put(name, uint32(len(dims)), dims, typ, offset)
}

// pad writes zeros up to a multiple of n.
func (b *builder) pad(n int) *builder { return b.zeros((n - b.Len()%n) % n) }

func (b *builder) zeros(n int) *builder {
	b.Write(make([]byte, n))
	return b
}

// randomValue returns a value of the kind k%15: every scalar, arrays of each,
// and an array of arrays.
func randomValue(rng *rand.Rand, k int) any {
	n := rng.IntN(5)
	switch k % 25 {
	case 0:
		return uint8(rng.Uint32())
	case 1:
		return int8(rng.Uint32())
	case 2:
		return uint16(rng.Uint32())
	case 3:
		return int16(rng.Uint32())
	case 4:
		return rng.Uint32()
	case 5:
		return int32(rng.Uint32())
	case 6:
		return rng.Float32()
	case 7:
		return rng.IntN(2) == 0
	case 8:
		return randomString(rng)
	case 9:
		return rng.Uint64()
	case 10:
		return int64(rng.Uint64())
	case 11:
		return rng.Float64()
	case 24:
		return []any{randomValue(rng, 12+rng.IntN(12)), randomValue(rng, 12+rng.IntN(12)), []any{[]string{"deep"}}}
	}
	element := randomValue(rng, k%25-12)
	a := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(element)), 0, n)
	for range n {
		a = reflect.Append(a, reflect.ValueOf(randomValue(rng, k%25-12)))
	}
	return a.Interface()
}

func randomString(rng *rand.Rand) string {
	b := make([]byte, rng.IntN(12))
	for i := range b {
		b[i] = byte(rng.Uint32()) // not always UTF-8: tokens are not either
	}
	return string(b)
}

// randomFile returns the content of a file with every value type and random
// tensors, and the same content as bytes.
func randomFile(rng *rand.Rand, order binary.ByteOrder, version uint32) (kvs []KV, tensors []TensorData, file []byte) {
	alignment := 32
	for i := range 25 + rng.IntN(25) {
		kvs = append(kvs, KV{fmt.Sprintf("key.%d", i), randomValue(rng, i)})
	}
	if rng.IntN(2) == 0 {
		alignment = 1 << rng.IntN(9)
		kvs = append(kvs, KV{"general.alignment", uint32(alignment)})
	}
	types := []TensorType{F32, F16, BF16, Q8_0, Q4_0, 8, 12, 14, 15, 19, 24, 28}
	n := rng.IntN(12)
	b := build(order, version, uint64(n), uint64(len(kvs)))
	for _, kv := range kvs {
		b.kv(kv.Key, valueNumbers[reflect.TypeOf(kv.Value).Kind()]).value(kv.Value)
	}
	var offset uint64
	var data [][]byte
	for i := range n {
		typ := types[rng.IntN(len(types))]
		length, size, _ := typ.Block()
		dims := []uint64{length * (1 + rng.Uint64N(3))}
		blocks := dims[0] / length
		for range rng.IntN(4) {
			dims = append(dims, 1+rng.Uint64N(4))
			blocks *= dims[len(dims)-1]
		}
		little := make([]byte, blocks*size)
		for j := range little {
			little[j] = byte(rng.Uint32())
		}
		name := fmt.Sprintf("tensor.%d", i)
		tensors = append(tensors, TensorData{name, typ, dims, func() ([]byte, error) { return little, nil }})
		b.tensor(name, uint32(typ), offset, dims...)
		stored := little
		if order == binary.BigEndian {
			stored = bytes.Clone(little)
			typ.swap(stored)
		}
		data = append(data, stored)
		offset += uint64(len(little)+alignment-1) / uint64(alignment) * uint64(alignment)
	}
	b.pad(alignment)
	for _, d := range data {
		b.Write(d)
		b.pad(alignment)
	}
	return kvs, tensors, b.Bytes()
}

func bytesOf(s string) *bytes.Buffer { return bytes.NewBufferString(s) }
