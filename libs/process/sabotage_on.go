//go:build sabotage

package process

import (
	"context"

	"opensandbox/libs/sabotage"
	"opensandbox/libs/storemetrics"
)

// sabotaged returns the store with the steps that a test may end this process at, and without a promise that it breaks.
func (p *Process) sabotaged(store storemetrics.Both) (storemetrics.Both, error) {
	broken := sabotage.Broken(store)
	if sabotage.BreaksRedis() {
		client, err := p.client(p.Settings.Store.Redis, p.Settings.ProcessName()+"-sabotage")
		if err != nil {
			return nil, err
		}
		broken = sabotage.BrokenRedis(broken, p.Installation.ID(), func(ctx context.Context, words ...any) error { return client.Do(ctx, words...).Err() })
	}
	return sabotage.FromEnvironment().Store(broken), nil
}
