package sandbox

import (
	"math"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
)

// memoryUnits are the suffixes of OpenSandbox 1.1.1, in lower case.
var memoryUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1e3, "ki": 1 << 10,
	"m": 1e6, "mb": 1e6, "mi": 1 << 20,
	"g": 1e9, "gb": 1e9, "gi": 1 << 30,
	"t": 1e12, "tb": 1e12, "ti": 1 << 40,
}

// ParseMemory parses an amount of memory such as 512Mi into bytes: a whole number with an optional unit (b, k, ki, m, mi, g, gi,
// t, ti, also kb, mb, gb, tb; any case). The result is positive.
func ParseMemory(s string) (int64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	digits := len(t)
	for i, c := range []byte(t) {
		if c < '0' || c > '9' {
			digits = i
			break
		}
	}
	unit, known := memoryUnits[t[digits:]]
	n, err := strconv.ParseInt(t[:digits], 10, 64)
	if err != nil || !known || n <= 0 || n > math.MaxInt64/unit {
		return 0, quantityError("memory", s, `a whole number with an optional unit, such as "512Mi" or "2Gi"`)
	}
	return n * unit, nil
}

// ParseCPU parses an amount of processor such as 500m or 1.5 into milli-CPUs, rounded to the nearest and at least 1. The largest
// amount is what still fits an int64 of nano-CPUs.
func ParseCPU(s string) (int64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	scale := 1000.0
	if rest, ok := strings.CutSuffix(t, "m"); ok {
		t, scale = rest, 1
	}
	f, err := strconv.ParseFloat(t, 64)
	if err != nil || !plainDecimal(t) || f <= 0 || f*scale*1e6 >= math.MaxInt64 {
		return 0, quantityError("cpu", s, `a positive number of cores, or of thousandths with m, such as "1.5" or "500m"`)
	}
	return max(1, int64(math.Round(f*scale))), nil
}

// maxGPUs bounds a number of GPUs; no node has that many.
const maxGPUs = 1024

// ParseGPUs parses a number of GPUs, or all of them.
func ParseGPUs(s string) (int, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	if t == "all" {
		return AllGPUs, nil
	}
	n, err := strconv.Atoi(t)
	if err != nil || n < 1 || n > maxGPUs || strings.ContainsAny(t, "+-") {
		return 0, quantityError("gpu", s, `a positive whole number, or "all"`)
	}
	return n, nil
}

// plainDecimal refuses what ParseFloat takes beyond decimals: inf, nan, hexadecimal and underscores.
func plainDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.e+-") == ""
}

func quantityError(what, got, want string) error {
	return fault.Newf(fault.Invalid, "resource limit %s=%q is not valid: expected %s", what, shorten(got), want).
		WithCode(CodeInvalidParameter).
		WithDetails(fault.Detail{Field: "resourceLimits." + what, Problem: "expected " + want})
}
