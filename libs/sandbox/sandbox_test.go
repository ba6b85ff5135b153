package sandbox_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// What travels with the intent was added to it later, field by field: programs of both sides of an update read each other's records.
func TestOriginsOfOtherVersions(t *testing.T) {
	t.Parallel()
	o := sandbox.Origin{Trace: "t", Request: "r"}
	body, err := json.Marshal(sandbox.NewRecord(sandbox.New{ID: "a", Spec: sandbox.Spec{Image: "i"}}, time.Unix(0, 0), o))
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		ID     sandbox.ID
		Intent struct {
			Desired sandbox.Desired
			Trace   string
		}
	}
	if err := json.Unmarshal(body, &older); err != nil || older.ID != "a" || older.Intent.Desired != sandbox.DesiredRunning || older.Intent.Trace != "t" {
		t.Errorf("an older program reads %+v of %s, %v", older, body, err)
	}
	for written, want := range map[string]sandbox.Origin{
		`{"id":"a","intent":{"desired":"running","generation":1,"trace":"t"}}`:                          {Trace: "t"},
		`{"id":"a","intent":{"desired":"running","generation":1,"trace":"t","request":"r","later":{}}}`: o,
	} {
		var r sandbox.Record
		if err := json.Unmarshal([]byte(written), &r); err != nil || r.Intent.Origin != want || r.Intent.Desired != sandbox.DesiredRunning {
			t.Errorf("%s is read as %+v, %v", written, r.Intent, err)
		}
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"1": 1, "512Mi": 512 << 20, " 2gi ": 2 << 30, "1k": 1000, "1KB": 1000, "3T": 3e12, "1ti": 1 << 40, "7b": 7,
	} {
		if got, err := sandbox.ParseMemory(in); err != nil || got != want {
			t.Errorf("ParseMemory(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "1.5Gi", "Gi", "1i", "1ib", "1 Gi", "9223372036854775807Ti", "0x10", "inf", "１"} {
		if got, err := sandbox.ParseMemory(in); fault.CodeOf(err) != sandbox.CodeInvalidParameter {
			t.Errorf("ParseMemory(%q) = %d, %v; want %s", in, got, err, sandbox.CodeInvalidParameter)
		}
	}
}

func TestParseCPU(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"1": 1000, "500m": 500, "0.5": 500, "1.5": 1500, " 2 ": 2000, "0.0001": 1, "100M": 100} {
		if got, err := sandbox.ParseCPU(in); err != nil || got != want {
			t.Errorf("ParseCPU(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "inf", "nan", "NaNm", "0x1p3", "1_0", "1e30", "m", "one"} {
		if got, err := sandbox.ParseCPU(in); fault.CodeOf(err) != sandbox.CodeInvalidParameter {
			t.Errorf("ParseCPU(%q) = %d, %v; want %s", in, got, err, sandbox.CodeInvalidParameter)
		}
	}
}

func TestCheckMetadata(t *testing.T) {
	t.Parallel()
	good := []map[string]string{nil, {}, {"a": ""}, {"example.com/name": "v-1_2.x"}, {"A.b_c-d": "Z"}, {strings.Repeat("k", 63): strings.Repeat("v", 63)}}
	for _, m := range good {
		if err := sandbox.CheckMetadata(m); err != nil {
			t.Errorf("CheckMetadata(%v) = %v", m, err)
		}
	}
	many := map[string]string{}
	for i := range sandbox.MaxMetadataItems + 1 {
		many["k"+strings.Repeat("x", i%50)+string(rune('a'+i%26))+strings.Repeat("y", i/26)] = "v"
	}
	bad := []map[string]string{
		{"": "v"}, {"/a": "v"}, {"a/": "v"}, {"-a": "v"}, {"a": "two words"}, {"a": "x\n"}, {"a\n": "x"}, {"opensandbox.io/id": "x"},
		{"UPPER.com/x": "v"}, {strings.Repeat("k", 64): "v"}, {"k": strings.Repeat("v", 64)}, {"ключ": "v"}, many,
	}
	for _, m := range bad {
		if err := sandbox.CheckMetadata(m); fault.CodeOf(err) != sandbox.CodeInvalidLabel || !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckMetadata(%.80v) = %v; want code %s", m, err, sandbox.CodeInvalidLabel)
		}
	}
	v := "two words"
	if err := sandbox.CheckMetadataPatch(map[string]*string{"not valid!": nil}); err != nil {
		t.Errorf("removing any key is allowed: %v", err)
	}
	if err := sandbox.CheckMetadataPatch(map[string]*string{"a": &v}); fault.CodeOf(err) != sandbox.CodeInvalidLabel {
		t.Errorf("patch with a bad value: %v", err)
	}
	if err := sandbox.CheckMetadataPatch(map[string]*string{"opensandbox.io/x": nil}); fault.CodeOf(err) != "INVALID_METADATA_LABEL" {
		t.Errorf("patch of a reserved key: %v", err)
	}
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"1", "1Gi", "500m", "1e3", "-0", "９"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := sandbox.ParseMemory(s); err == nil && n <= 0 {
			t.Errorf("ParseMemory(%q) = %d", s, n)
		}
		if n, err := sandbox.ParseCPU(s); err == nil && (n <= 0 || n > 9_223_372_036_855) {
			t.Errorf("ParseCPU(%q) = %d", s, n)
		}
	})
}
