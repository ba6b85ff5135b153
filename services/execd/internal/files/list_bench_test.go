package files

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkSearch walks 10,000 files in 100 folders.
func BenchmarkSearch(b *testing.B) {
	root := b.TempDir()
	for i := range 10_000 {
		dir := filepath.Join(root, fmt.Sprintf("folder-%02d", i/100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("some_file_%05d.py", i)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	s := New([]string{"HOME=" + root}, nil)
	for _, pattern := range []string{"*.log", "**", "some?file*.log"} {
		b.Run(pattern, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				err := s.Search(b.Context(), root, pattern, func(i Info) (err error) {
					buf, err = i.AppendJSON(buf[:0])
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
