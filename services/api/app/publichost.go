package app

import (
	"net"
	"os"
	"slices"
	"strings"
)

// PublicHost returns the host at which clients reach published ports, by the rules of OpenSandbox 1.1.1: external if it is set; else the
// host that the server listens on; where that says nothing to a client (a wildcard, or loopback inside a container), hostIP if it is set,
// else the address that leads out of this machine.
func PublicHost(external, listen, hostIP string) string {
	if e := strings.TrimSpace(external); e != "" {
		return e
	}
	wildcard := slices.Contains([]string{"", "0.0.0.0", "::"}, listen)
	loopback := slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, listen)
	if (wildcard || loopback) && hostIP != "" && inContainer() {
		return hostIP
	}
	if wildcard {
		return outbound()
	}
	return listen
}

// inContainer recognises containers by the marks that engines leave.
func inContainer() bool {
	for _, f := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(f); err == nil {
			return true
		}
	}
	kinds := []string{"podman", "docker", "oci", "lxc", "lxc-libvirt", "systemd-nspawn"}
	return slices.ContainsFunc([]string{"container", "CONTAINER"}, func(variable string) bool {
		return slices.Contains(kinds, strings.ToLower(strings.TrimSpace(os.Getenv(variable))))
	})
}

// outbound returns the source address of packets that leave this machine. Connecting a UDP socket sends none.
func outbound() string {
	c, err := net.Dial("udp4", "8.8.8.8:80")
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.IP.String()
	}
	return "127.0.0.1"
}
