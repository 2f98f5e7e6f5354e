package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A path of a layer's tar: one that ends in a slash is a directory, "name -> target" a symbolic link, "name => target" a
// hard link.
func layerTar(t testing.TB, paths ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range paths {
		h := &tar.Header{Name: p, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		if name, target, ok := strings.Cut(p, " -> "); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, name, target
		} else if name, target, ok := strings.Cut(p, " => "); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, target
		} else if strings.HasSuffix(p, "/") {
			h.Typeflag = tar.TypeDir
		} else if !strings.Contains(p, ".wh.") {
			h.Size = int64(len(p))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(p)[:h.Size])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// together lists layers as one, by way of files.
func together(t testing.TB, layers ...[]byte) []string {
	t.Helper()
	var open []*listing
	for i, data := range layers {
		all, err := readListing(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), fmt.Sprint(i))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeListing(f, all); err != nil {
			t.Fatal(err)
		}
		f.Close()
		l, err := openListing(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		open = append(open, l)
	}
	var seen []string
	err := merge(open, func(l *listed) bool {
		h := l.header()
		name := h.Name
		switch h.Typeflag {
		case tar.TypeDir:
			name += "/"
			if h.ModTime.IsZero() {
				name += "?"
			}
		case tar.TypeSymlink:
			name += " -> " + h.Linkname
		default:
			name += fmt.Sprintf(" %d", h.Size)
		}
		seen = append(seen, name)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestLayersTogether(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers [][]string
		want   []string
	}{
		{"a walk's order", [][]string{{"b", "a/", "a/z", "a-b", "a/b/", "./", "a/b/c", "/abs", "a.b/x"}},
			[]string{"a/", "a/b/", "a/b/c 5", "a/z 3", "a-b 3", "a.b/?", "a.b/x 5", "abs 4", "b 1"}},
		{"a layer over a layer", [][]string{{"a/", "a/one", "b"}, {"a/two", "b -> a"}}, []string{"a/", "a/one 5", "a/two 5", "b -> a"}},
		{"a whiteout", [][]string{{"a/", "a/x", "a/y/", "a/y/z"}, {"a/.wh.x", "a/.wh.y"}}, []string{"a/"}},
		{"gone and made again", [][]string{{"a/", "a/old"}, {".wh.a"}, {"a/", "a/new"}}, []string{"a/", "a/new 5"}},
		{"gone and made again in one layer", [][]string{{"a/", "a/old"}, {"a/", "a/new", ".wh.a"}}, []string{"a/", "a/new 5"}},
		{"opaque, wherever the mark is", [][]string{{"a/", "a/old", "a/d/", "a/d/old"}, {"a/", "a/new", "a/.wh..wh..opq"}}, []string{"a/", "a/new 5"}},
		{"an opaque mark alone makes the directory", [][]string{{"x"}, {"a/.wh..wh..opq"}}, []string{"a/?", "x 1"}},
		{"an opaque root", [][]string{{"old", "d/", "d/old"}, {".wh..wh..opq", "new"}}, []string{"new 3"}},
		{"opaque in a directory that is gone below", [][]string{{"a/", "a/x"}, {".wh.a"}, {"a/", "a/.wh..wh..opq", "a/y"}}, []string{"a/", "a/y 3"}},
		{"a file over a directory", [][]string{{"a/", "a/x", "a/y/", "a/y/z"}, {"a"}}, []string{"a 1"}},
		{"a directory over a file", [][]string{{"a"}, {"a/", "a/x"}}, []string{"a/", "a/x 3"}},
		{"a directory over a file over a directory", [][]string{{"a/", "a/old"}, {"a"}, {"a/", "a/new"}}, []string{"a/", "a/new 5"}},
		{"a link over a directory", [][]string{{"a/", "a/x"}, {"a -> b"}}, []string{"a -> b"}},
		{"a directory without an entry keeps the lower one's", [][]string{{"a/"}, {"a/x"}}, []string{"a/", "a/x 3"}},
		{"hard links", [][]string{{"d/", "d/file", "z => d/file", "a => nosuch"}}, []string{"a 0", "d/", "d/file 6", "z 6"}},
		{"the last of several entries counts", [][]string{{"a", "a/", "a -> b"}}, []string{"a -> b"}},
		{"names of any bytes", [][]string{{"\xff\xfe", "a b", "n\nl"}}, []string{"a b 3", "n\nl 3", "\xff\xfe 2"}},
		{"marks of AUFS", [][]string{{".wh..wh.aufs", ".wh..wh.plnk/", "a"}}, []string{"a 1"}},
		{"out of the root", [][]string{{"../../etc/x"}}, []string{"etc/?", "etc/x 11"}},
		{"nothing", [][]string{{}, {}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range test.layers {
				layers = append(layers, layerTar(t, l...))
			}
			if diff := cmp.Diff(test.want, together(t, layers...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLayersAsUnpacked compares with layers that are applied one after the other.
func TestLayersAsUnpacked(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "a-b", "c.d"}
	for range 500 {
		var layers [][]byte
		var made [][]string
		tree := map[string]bool{} // whether it is a directory
		for range 1 + r.IntN(4) {
			var paths []string
			used := map[string]bool{}
			for range r.IntN(8) {
				var parts []string
				for range 1 + r.IntN(3) {
					parts = append(parts, names[r.IntN(len(names))])
				}
				p := strings.Join(parts, "/")
				// One layer does not have a path as two things, or as a file with something in it.
				clash := used[p]
				for q := range used {
					clash = clash || strings.HasPrefix(q, p+"/") || strings.HasPrefix(p, q+"/")
				}
				if clash {
					continue
				}
				used[p] = true
				switch r.IntN(4) {
				case 0:
					paths = append(paths, path.Join(path.Dir(p), ".wh."+path.Base(p)))
				case 1:
					paths = append(paths, p+"/", p+"/.wh..wh..opq")
				case 2:
					paths = append(paths, p+"/")
				default:
					paths = append(paths, p)
				}
			}
			made = append(made, paths)
			layers = append(layers, layerTar(t, paths...))
			apply(tree, paths)
		}
		want := slices.SortedFunc(maps.Keys(tree), WalkOrder)
		var got []string
		for _, line := range together(t, layers...) {
			name, _, _ := strings.Cut(strings.TrimRight(line, "/?"), " ")
			got = append(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, layers %q:\n%s", seed, made, diff)
		}
	}
}

func apply(tree map[string]bool, paths []string) {
	drop := func(p string, itself bool) {
		for q := range tree {
			if itself && q == p || strings.HasPrefix(q, p+"/") {
				delete(tree, q)
			}
		}
	}
	for _, p := range paths { // whiteouts hide lower layers alone
		dir, base := path.Split(p)
		switch {
		case base == ".wh..wh..opq":
			drop(strings.TrimSuffix(dir, "/"), false)
		case strings.HasPrefix(base, ".wh."):
			drop(dir+base[4:], true)
		}
	}
	for _, p := range paths {
		if strings.HasPrefix(path.Base(p), ".wh.") {
			p = path.Dir(p) + "/" // it is there for the mark
			if p == "./" {
				continue
			}
		}
		name, isDir := strings.CutSuffix(p, "/")
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			if dir, there := tree[d]; there && !dir {
				delete(tree, d)
			}
			tree[d] = true
		}
		if !isDir || !tree[name] {
			drop(name, true)
		}
		tree[name] = isDir
	}
}

// TestListingSize says what listings cost.
func TestListingSize(t *testing.T) {
	var paths []string
	for i := range 20000 {
		paths = append(paths, fmt.Sprintf("usr/lib/python3/dist-packages/package%d/module%d.py", i/100, i))
	}
	all, err := readListing(bytes.NewReader(layerTar(t, paths...)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "l"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeListing(f, all); err != nil {
		t.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() > int64(40*len(all)) {
		t.Errorf("%d files take %d bytes, %v", len(all), fi.Size(), err)
	}
}

func FuzzListing(f *testing.F) {
	f.Add(layerTar(f, "a/", "a/b", "c -> a", "d => a/b", "a/.wh.x", ".wh..wh..opq"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readListing(bytes.NewReader(data))
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(all, compareListed) {
			t.Errorf("not sorted: %+v", all)
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "l"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := writeListing(file, all); err != nil {
			t.Fatal(err)
		}
		l, err := openListing(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		for _, want := range all {
			if l.over || l.next.path != want.path || l.next.kind != want.kind || l.next.link != want.link || want.kind == entry && l.next.mode != want.mode || l.next.size != want.size {
				t.Fatalf("%+v became %+v", want, l.next)
			}
			if err := l.advance(); err != nil {
				t.Fatal(err)
			}
		}
		if !l.over {
			t.Error("there is more than was written")
		}
	})
}

// FuzzReadListing reads files that nobody has written.
func FuzzReadListing(f *testing.F) {
	f.Add([]byte(listingMagic + "\x04\x00\x01a\xa4\x83\x03\x00\x00\x02\x02\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "l")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openListing(name)
		for err == nil && !l.over {
			err = l.advance()
		}
		if l != nil {
			l.close()
		}
	})
}
