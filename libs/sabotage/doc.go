// Package sabotage lets a process of the platform end, or stand still, right before or right after a named step: each call through which a
// part of the platform changes something outside of its own memory. The decorators write every such method out, and embed no port, so that a
// new method does not compile before somebody has decided whether it is a step.
//
// All but this text is behind the build tag "sabotage". Programs that are given to people have nothing of it.
package sabotage
