package mutate

import "encoding/binary"

// field is where a number of a file stands.
type field struct{ at, size int }

// ggufFields returns the numbers in the header of a GGUF file, little-endian and of version 2 or 3,
// as far as it can be followed: counts, lengths, types, dimensions, offsets, and values of keys. It
// is a second reader of the format, which trusts nothing and finds no fault. Of an array
// it looks at the first elements only.
func ggufFields(b []byte) (fields []field) {
	if len(b) < 24 || string(b[:4]) != "GGUF" {
		return nil
	}
	pos := 0
	number := func(size int) uint64 { // after the end it is 0
		if pos < 0 || pos > len(b)-size {
			pos = len(b)
			return 0
		}
		fields = append(fields, field{pos, size})
		var v [8]byte
		copy(v[:], b[pos:pos+size])
		pos += size
		return binary.LittleEndian.Uint64(v[:])
	}
	skip := func(n uint64) { pos += int(min(n, uint64(len(b)-pos))) }
	number(4)
	number(4)
	nTensors, nKeys := number(8), number(8)
	sizes := [...]int{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}
	var value func(typ uint64, depth int)
	value = func(typ uint64, depth int) {
		switch {
		case typ == 8:
			skip(number(8))
		case typ == 9 && depth < 4:
			element, n := number(4), number(8)
			for i := uint64(0); i < n && pos < len(b); i++ {
				if element < uint64(len(sizes)) && sizes[element] > 0 && i == 2 {
					skip((n - 2) * uint64(sizes[element]))
					return
				}
				value(element, depth+1)
			}
		case typ < uint64(len(sizes)) && typ != 9:
			number(sizes[typ])
		default:
			pos = len(b)
		}
	}
	for i := uint64(0); i < nKeys && pos < len(b); i++ {
		skip(number(8))
		value(number(4), 0)
	}
	for i := uint64(0); i < nTensors && pos < len(b); i++ {
		skip(number(8))
		n := number(4)
		for d := uint64(0); d < n && pos < len(b); d++ {
			number(8)
		}
		number(4)
		number(8)
	}
	return fields
}
