//go:build !embed_execd

package delivery

// embedded is empty in a build without make, so that the whole workspace builds in a clean clone.
var embedded []byte
