module opensandbox/services/execd

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/google/go-cmp v0.7.0
	github.com/pelletier/go-toml/v2 v2.4.3
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.49.0
	opensandbox/libs v0.0.0
)

require github.com/stretchr/testify v1.12.1 // indirect

replace opensandbox/libs => ../../libs
