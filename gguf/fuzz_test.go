package gguf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/guardcpu/guardcpu/internal/mutate"
)

// FuzzParse: whatever the bytes, Parse returns a file or an error; a file it
// returns can be read everywhere, and written again gives the same bytes.
func FuzzParse(f *testing.F) {
	for _, c := range fileCases {
		if c.file.Len() < 4096 {
			f.Add(c.file.Bytes())
		}
	}
	for _, version := range []uint32{2, 3} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			_, _, data := randomFile(rand.New(rand.NewPCG(uint64(version), 9)), order, version)
			f.Add(data)
		}
	}
	mutate.Fuzz(f, func(t testing.TB, data []byte) {
		file, err := Parse("fuzz", data)
		if err != nil {
			return
		}
		for _, kv := range file.KVs {
			_, _, _ = file.Uint(kv.Key)
			_, _, _ = file.Ints(kv.Key)
			if v, ok := file.Value(kv.Key); !ok || typeName(v) == "" {
				t.Fatalf("key %q is lost", kv.Key)
			}
		}
		for i := range file.Tensors {
			x := &file.Tensors[i]
			if got := file.Data(x); uint64(len(got)) != x.Size {
				t.Fatalf("tensor %q has %d bytes, want %d", x.Name, len(got), x.Size)
			}
		}
		var b bytes.Buffer
		if err := file.rewrite(&b, nil, nil); err != nil || !bytes.Equal(b.Bytes(), data) {
			t.Fatalf("rewritten: %v, %d bytes of %d", err, b.Len(), len(data))
		}
	})
}
