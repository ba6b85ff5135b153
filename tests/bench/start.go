package main

import "fmt"

// starts is how often the server is started; each has a store that the one before has left in order.
const starts = 10

// startups measures how long the server takes from its start to its first answer with many records.
func (b *bench) startups() error {
	if err := b.stop(); err != nil {
		return err
	}
	if _, err := b.fill(); err != nil {
		return err
	}
	samples := make([]float64, 0, starts)
	for range starts {
		took, err := timed(b.start)
		if err != nil {
			return err
		}
		samples = append(samples, took)
		if err := b.stop(); err != nil {
			return err
		}
	}
	b.add(result{Section: "start", Name: fmt.Sprintf("start to /health with %d records on SQLite", records), Samples: samples, Note: "target: median ≤ 300 ms"})
	return b.start() // what comes next expects a server
}
