package sandbox

// The container ports for which each sandbox gets a port of its node, as in OpenSandbox 1.1.1.
const (
	// ExecdPort is where the daemon in each sandbox listens. It forwards to all other ports of the sandbox.
	ExecdPort = 44772
	// AppPort is the usual port of a web application.
	AppPort = 8080
)
