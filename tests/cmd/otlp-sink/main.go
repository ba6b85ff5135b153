// Command otlp-sink stands for an OpenTelemetry collector in tests; see package otlpsink.
package main

import (
	"log"
	"net/http"
	"time"

	"opensandbox/tests/otlpsink"
)

// address is the standard port of OTLP over HTTP.
const address = ":4318"

func main() {
	server := &http.Server{Addr: address, Handler: new(otlpsink.Sink).Handler(), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
