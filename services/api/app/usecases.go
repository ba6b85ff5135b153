package app

import (
	"opensandbox/services/api/internal/usecase"
)

// UseCases are what clients can do, without a transport, for a simulator that drives them.
type (
	UseCases        = usecase.UseCases
	UseCaseConfig   = usecase.Config
	UseCaseDeps     = usecase.Deps
	Waiter          = usecase.Waiter
	Ref             = usecase.Ref
	CreateRequest   = usecase.CreateRequest
	RenewRequest    = usecase.RenewRequest
	PatchRequest    = usecase.PatchRequest
	ListRequest     = usecase.ListRequest
	EndpointRequest = usecase.EndpointRequest
)

// NewUseCases returns the use cases over a store and a waiter.
func NewUseCases(cfg UseCaseConfig, deps UseCaseDeps) *UseCases { return usecase.New(cfg, deps) }
