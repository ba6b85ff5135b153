package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"opensandbox/libs/fault"
)

func TestClassificationSurvivesWrapping(t *testing.T) {
	t.Parallel()
	base := fault.New(fault.NotFound, "sandbox not found").WithCode("DOCKER::SANDBOX_NOT_FOUND")
	err := fmt.Errorf("delete: %w", base.Because(io.ErrUnexpectedEOF).RetryAfter(time.Second).About("x"))

	if got := fault.KindOf(err); got != fault.NotFound {
		t.Errorf("KindOf = %v, want %v", got, fault.NotFound)
	}
	if got := fault.TextOf(err); got != "sandbox not found" {
		t.Errorf("TextOf = %q: the cause must not be in it", got)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if !errors.Is(err, base) {
		t.Error("an error with the same kind and code must compare equal")
	}
	if fault.RetryAfterOf(err) != time.Second || fault.SubjectOf(err) != "x" {
		t.Errorf("retry %v, subject %q", fault.RetryAfterOf(err), fault.SubjectOf(err))
	}
	if base.RetryAfter(time.Minute); fault.RetryAfterOf(base) != 0 {
		t.Error("With methods must not change the receiver")
	}
}

func TestUnclassifiedErrorsShowNothing(t *testing.T) {
	t.Parallel()
	err := errors.New("password=secret")
	if fault.KindOf(err) != fault.Internal || fault.TextOf(err) != "internal error" || fault.CodeOf(err) != "" {
		t.Errorf("kind %v text %q code %q", fault.KindOf(err), fault.TextOf(err), fault.CodeOf(err))
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("nil is no error")
	}
}
