package containers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The images of the tests. No image is pulled: base consists of this machine's programs, and the
// Dockerfile builds the others with a compiler stand-in.
const (
	baseImage     = "base"
	rollcallImage = "rollcall"
	demoImage     = "rollcall-demo"
)

// repository is the root of the repository, relative to this package.
const repository = "../.."

// compiler replaces the golang image's go: the modules and the built programs are already there. The
// rest of the Dockerfile runs as shipped.
const compiler = `#!/bin/sh
case "$1" in
mod) ;;
build) mkdir -p /out && cp /built/* /out/ ;;
*) echo "unexpected: go $*" >&2 && exit 1 ;;
esac
`

func (e *engine) makeImages() error {
	built := filepath.Join(e.dir, "built")
	for _, build := range [][]string{
		{"docker/build.sh", built}, {"go", "build", "-o", filepath.Join(built, "witness"), "./tests/containers/witness"},
	} {
		cmd := exec.Command(build[0], build[1:]...)
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", build, err, out)
		}
	}
	golang := newImage()
	golang.text("/usr/local/bin/go", compiler)
	golang.text("/etc/ssl/certs/ca-certificates.crt", "")
	golang.file("/built/rollcall", filepath.Join(built, "rollcall"))
	golang.file("/built/demo", filepath.Join(built, "demo"))
	if err := errors.Join(e.load(e.base(), baseImage), e.load(golang, "golang:1.26")); err != nil {
		return err
	}
	for image, target := range map[string]string{rollcallImage: "rollcall", demoImage: "demo"} {
		_, err := e.try("build", "--quiet", "--tag", image, "--target", target, "--file", filepath.Join(repository, "docker/Dockerfile"), repository)
		if err != nil {
			return err
		}
	}
	return nil
}

// base is a file system with the servers, the hooks, and a program for them to start.
func (e *engine) base() *image {
	i := newImage()
	for _, program := range []string{"redis-server", "redis-cli", "memcached", "curl"} {
		i.program(program)
	}
	i.file("/rollcall.sh", filepath.Join(repository, "docker/rollcall.sh"))
	i.file("/rollcall", filepath.Join(e.dir, "built/rollcall"))
	i.file("/witness", filepath.Join(e.dir, "built/witness"))
	return i
}

// image is a file system under construction. It keeps its first error.
type image struct {
	files map[string]content
	err   error
}

type content struct {
	mode int64
	text string
	path string // source file on this machine, or empty
	link string // target of a symbolic link, or empty
}

// newImage returns a file system with a shell and the users that programs look up.
func newImage() *image {
	i := &image{files: map[string]content{}}
	i.program("busybox")
	out, err := exec.Command("busybox", "--list").Output()
	i.fail(err)
	for applet := range strings.FieldsSeq(string(out)) {
		// Debian's static busybox cannot look up a name, and crashes when it tries.
		if applet != "busybox" && applet != "wget" && applet != "nslookup" && applet != "ping" {
			i.files["/bin/"+applet] = content{link: "busybox"}
		}
	}
	i.text("/etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
	i.text("/etc/nsswitch.conf", "hosts: files dns\n")
	i.text("/tmp/.keep", "")
	return i
}

func (i *image) fail(err error) { i.err = errors.Join(i.err, err) }

func (i *image) text(path, text string) { i.files[path] = content{mode: 0o755, text: text} }

func (i *image) file(path, from string) { i.files[path] = content{mode: 0o755, path: from} }

// program adds a program of this machine to /bin, with the libraries that it loads.
func (i *image) program(name string) {
	path, err := exec.LookPath(name)
	if err != nil {
		i.fail(err)
		return
	}
	i.file("/bin/"+name, path)
	libraries, _ := exec.Command("ldd", path).Output() // fails for a static program
	for word := range strings.FieldsSeq(string(libraries)) {
		if strings.HasPrefix(word, "/") {
			i.file(word, word)
		}
	}
}

// load loads the image into the engine, changed by instructions of a Dockerfile.
func (e *engine) load(i *image, name string, changes ...string) error {
	if i.err != nil {
		return i.err
	}
	args := []string{"import"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(i.write(w)) }()
	_, err := e.tryWith(r, append(args, "-", name)...)
	return err
}

func (i *image) write(to io.Writer) error {
	w := tar.NewWriter(to)
	for path, c := range i.files {
		text := []byte(c.text)
		if c.path != "" {
			var err error
			if text, err = os.ReadFile(c.path); err != nil { // follows links
				return err
			}
		}
		header := &tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: c.mode, Size: int64(len(text)), Linkname: c.link, Typeflag: tar.TypeReg}
		if c.link != "" {
			header.Typeflag, header.Mode = tar.TypeSymlink, 0o777
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return w.Close()
}
