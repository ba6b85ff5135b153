module opensandbox/services/scheduler

go 1.26.0

require opensandbox/libs v0.0.0

require golang.org/x/sys v0.49.0

replace opensandbox/libs => ../../libs
