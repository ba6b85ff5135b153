package httpapi

import (
	"errors"
	"net/http"

	"opensandbox/services/execd/internal/files"
)

const (
	// arrayBlock is the size of the blocks of a long answer, and arrayRoom what is left free at the end of one so that another element mostly
	// has room, in bytes.
	arrayBlock = 256 << 10
	arrayRoom  = 8 << 10
	// arrayHeld is how much of an answer is held back, in bytes: some 40,000 files.
	arrayHeld = 8 << 20
)

// errGone ends the walk for an answer that cannot be sent.
var errGone = errors.New("the client has left")

// arrayWriter writes a JSON array, never null. The beginning is held back encoded, because an error of the walk must still be able to set the
// status; what is longer is sent as it is found, for it may be more than the sandbox has memory. Many blocks hold it: one that grew would be
// copied again and again.
type arrayWriter struct {
	w     http.ResponseWriter
	full  [][]byte
	held  int // Bytes in full.
	block []byte
	any   bool // There is an element.
	begun bool // The status is sent.
}

// array answers with all that a walk gives.
func array(w http.ResponseWriter, r *http.Request, walk func(each func(files.Info) error) error) error {
	a := &arrayWriter{w: w, block: []byte("[")}
	err := walk(a.add)
	switch {
	case r.Context().Err() != nil:
		return nil // Nobody is left to answer.
	case err != nil && a.begun:
		panic(http.ErrAbortHandler) // The status is out: a cut connection is the only way to say that the list is not whole.
	case err != nil:
		return err
	}
	a.block = append(a.block, ']')
	if a.begun {
		_ = a.send(a.block) // The client is gone; nobody is left to tell.
		return nil
	}
	return writeBlocks(w, http.StatusOK, append(a.full, a.block))
}

func (a *arrayWriter) add(i files.Info) (err error) {
	if a.any {
		a.block = append(a.block, ',')
	}
	a.any = true
	if a.block, err = i.AppendJSON(a.block); err != nil {
		return err
	}
	switch {
	case len(a.block) <= arrayBlock-arrayRoom:
		return nil
	case a.begun:
		err = a.send(a.block)
		a.block = a.block[:0]
		return err
	}
	a.full, a.held = append(a.full, a.block), a.held+len(a.block)
	a.block = make([]byte, 0, arrayBlock)
	if a.held <= arrayHeld {
		return nil
	}
	return a.begin()
}

// begin sends the status, and what was held back.
func (a *arrayWriter) begin() error {
	a.begun = true
	a.w.Header().Set("Content-Type", jsonType)
	a.w.WriteHeader(http.StatusOK)
	err := a.send(a.full...)
	a.full = nil
	return err
}

func (a *arrayWriter) send(blocks ...[]byte) error {
	for _, b := range blocks {
		if _, err := a.w.Write(b); err != nil {
			return errGone
		}
	}
	return nil
}
