package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin serves /metrics, /health and /ready. /health answers as long as the process runs at all; ready returns nil while it can do its
// work, else why it cannot.
func Admin(reg prometheus.Gatherer, ready func() error) http.Handler {
	mux := http.NewServeMux()
	// A collector that fails costs its own metrics, not the whole page.
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("healthy\n")) // the prober may have gone
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n")) // the prober may have gone
	})
	return mux
}
