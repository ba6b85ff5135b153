package main

import (
	"context"
	"net"
	"net/netip"

	"opensandbox/libs/executor"
	"opensandbox/libs/settings"
)

// publicHost returns where clients reach the leased ports of this node: agent.host; else the one address that ports are published on; else the
// machine of a remote engine; else the address that leads out of this machine.
func publicHost(ctx context.Context, s settings.Settings, engine executor.Executor) (string, error) {
	if s.Agent.Host != "" {
		return s.Agent.Host, nil
	}
	if !everywhere(s.Docker.PublishHost) {
		return s.Docker.PublishHost, nil
	}
	if d, ok := executor.As[executor.Describer](engine); ok {
		f, err := d.Describe(ctx)
		if err != nil || f.Host != "" {
			return f.Host, err
		}
	}
	return outbound(), nil
}

// internalAddress returns what other processes call the agent by: where it listens, or its host if it listens everywhere.
func internalAddress(listens net.Addr, host string) string {
	h, port, err := net.SplitHostPort(listens.String())
	if err != nil {
		return listens.String()
	}
	if everywhere(h) {
		h = host
	}
	return net.JoinHostPort(h, port)
}

func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || (err == nil && a.IsUnspecified())
}

// outbound returns the source address of packets that leave this machine. Connecting a UDP socket sends none.
func outbound() string {
	c, err := net.Dial("udp4", "8.8.8.8:80")
	if err != nil {
		return "127.0.0.1" // a machine without a way out; clients can only be here
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.IP.String()
	}
	return "127.0.0.1"
}
