package files

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"

	"opensandbox/libs/fault"
)

const (
	codeFile     = "INVALID_FILE"
	codeContent  = "INVALID_FILE_CONTENT"
	codeMetadata = "INVALID_FILE_METADATA"

	// maxMetadata bounds one description, in bytes.
	maxMetadata = 1 << 20
	// maxPending bounds the descriptions that wait for their file, and the files that wait for their description.
	maxPending = 4096
	// maxWaiting bounds the descriptions that wait for their file, in bytes.
	maxWaiting = 16 << 20
	// bodyBuffer is the size of reads from the connection.
	bodyBuffer = 256 << 10
)

// description says where one uploaded file goes.
type description struct {
	Path string `json:"path"`
	Permission

	size int // Of its JSON.
}

// upload is one request in progress. The i-th description belongs to the i-th file, in whatever order the parts come.
type upload struct {
	s       *Service
	waiting []description // Described, file not seen yet.
	held    int           // Bytes of these.
	spooled []*os.File    // Received, description not seen yet.
	described,
	received int
}

// NotMultipart is the answer to an upload body of another form.
func NotMultipart() error {
	return fault.New(fault.Invalid, "multipart form is empty").WithCode(codeFile)
}

// Upload stores every pair of a "metadata" and a "file" part. Files are streamed to disk as they arrive; earlier pairs stay when a
// later one fails. Part file names are never used.
func (s *Service) Upload(body io.Reader, boundary string) error {
	u := &upload{s: s}
	defer u.drop()
	// multipart reads in small pieces; the buffer keeps the number of system calls down.
	mr := multipart.NewReader(bufio.NewReaderSize(body, bodyBuffer), boundary)
	for {
		// NextRawPart would keep Content-Transfer-Encoding as it is; NextPart decodes quoted-printable, as form parsers do.
		part, err := mr.NextPart()
		if err == io.EOF { // Bare only after the last boundary; a body that was cut gives a wrapped one.
			break
		}
		if err != nil {
			return fault.Newf(fault.Invalid, "multipart form is broken: %s", err).WithCode(codeFile)
		}
		switch part.FormName() {
		case "metadata":
			err = u.describe(part)
		case "file":
			err = u.receive(part)
		}
		if err != nil {
			return clientError(err)
		}
	}
	return u.complete()
}

// clientError words an error of the request body; everything else passes.
func clientError(err error) error {
	if be, ok := errors.AsType[bodyError](err); ok {
		return fault.Newf(fault.Invalid, "the upload ended early: %s", be.error).WithCode(codeFile)
	}
	return err
}

func (u *upload) describe(part io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(part, maxMetadata+1))
	if err != nil {
		return bodyError{err}
	}
	var d description
	if len(data) > maxMetadata {
		return fault.New(fault.Invalid, "metadata is too large").WithCode(codeMetadata)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return fault.Newf(fault.Invalid, "metadata is not valid JSON: %s", err).WithCode(codeMetadata)
	}
	if d.Path == "" {
		return fault.New(fault.Invalid, "metadata path is empty").WithCode(codeMetadata)
	}
	u.described++
	if len(u.spooled) == 0 {
		d.size = len(data)
		u.waiting, u.held = append(u.waiting, d), u.held+d.size
		if len(u.waiting) > maxPending || u.held > maxWaiting {
			return fault.New(fault.Invalid, "too many metadata parts without a file").WithCode(codeFile)
		}
		return nil
	}
	f := u.spooled[0]
	u.spooled = u.spooled[1:]
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return broken(err)
	}
	return u.s.store(d, f)
}

func (u *upload) receive(part io.Reader) error {
	u.received++
	if len(u.waiting) > 0 {
		d := u.waiting[0]
		u.waiting, u.held = u.waiting[1:], u.held-d.size
		return u.s.store(d, part)
	}
	if len(u.spooled) >= maxPending {
		return fault.New(fault.Invalid, "too many file parts without metadata").WithCode(codeFile)
	}
	f, err := u.s.spoolFile()
	if err != nil {
		return err
	}
	u.spooled = append(u.spooled, f)
	return fill(f, part)
}

// complete checks that everything found its partner.
func (u *upload) complete() error {
	switch {
	case u.described == 0:
		return fault.New(fault.Invalid, "metadata file is missing").WithCode(codeMetadata)
	case u.received == 0:
		return fault.New(fault.Invalid, "file is missing").WithCode(codeContent)
	case u.described != u.received:
		return fault.Newf(fault.Invalid, "%d metadata parts but %d file parts", u.described, u.received).WithCode(codeFile)
	}
	return nil
}

func (u *upload) drop() {
	for _, f := range u.spooled {
		f.Close()
	}
}

// spoolFile returns a file without a name: it disappears with its last descriptor.
func (s *Service) spoolFile() (*os.File, error) {
	var problems []error
	for _, dir := range s.spool {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			problems = append(problems, err)
			continue
		}
		f, err := os.CreateTemp(dir, "spool-")
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return nil, broken(err)
		}
		return f, nil
	}
	return nil, broken(fmt.Errorf("no directory for temporary files can be written: %w", errors.Join(problems...)))
}

// store writes one file. Names are looked up first, so that an unknown owner touches nothing.
func (s *Service) store(d description, src io.Reader) error {
	path, err := s.Path(d.Path)
	if err != nil {
		return err
	}
	want, err := d.Permission.resolve()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return broken(err)
	}
	return writeWhole(path, src, want, nil)
}
