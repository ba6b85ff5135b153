module opensandbox/tests

go 1.26.0

require (
	opensandbox/libs v0.0.0
	opensandbox/services/api v0.0.0
	opensandbox/services/runtime-agent v0.0.0
	opensandbox/services/scheduler v0.0.0
)

replace opensandbox/libs => ../libs

replace opensandbox/services/api => ../services/api

replace opensandbox/services/scheduler => ../services/scheduler

replace opensandbox/services/runtime-agent => ../services/runtime-agent
