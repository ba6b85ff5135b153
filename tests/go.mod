module opensandbox/tests

go 1.26.0

require opensandbox/libs v0.0.0

replace opensandbox/libs => ../libs
