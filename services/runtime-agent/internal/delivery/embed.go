//go:build embed_execd

package delivery

import _ "embed"

// embedded is the daemon; make puts it there before it builds with this tag.
//
//go:embed embedded/execd
var embedded []byte
