package settings

import (
	"errors"
	"strings"
	"time"

	"opensandbox/libs/conf"
)

// Tenants is the section of several users who do not see each other's sandboxes. It is checked; no process starts with it yet.
type Tenants struct {
	Provider, Endpoint string
	MaxStale, Timeout  time.Duration
	AuthHeader         string
	AuthToken          conf.Secret
}

// OTel is the section of metrics that are sent. It has no effect yet: metrics are read at server.admin_listen.
type OTel struct {
	Enabled               bool
	Endpoint, ServiceName string
	Interval              time.Duration
}

func tenantKeys(s *Settings) []conf.Key {
	v := &s.Tenants
	table := []conf.Key{
		conf.Enum("tenants.provider", &v.Provider, "file", "http").Describe("where tenants and their keys come from; the section alone switches tenants on", api),
		conf.String("tenants.endpoint", &v.Endpoint, blankOr(webAddress)).Conceal().Allow("URL").Describe("who is asked with `http`", api),
		conf.FloatSeconds("tenants.max_stale_seconds", &v.MaxStale, 0, false).Describe("how long an answer holds while nobody answers", api),
		conf.FloatSeconds("tenants.timeout_seconds", &v.Timeout, 0, true).Describe("how long an answer may take", api),
		conf.String("tenants.auth_header", &v.AuthHeader, nil).Describe("header that shows who asks", api),
		conf.Hidden("tenants.auth_token", &v.AuthToken, nil).Describe("value of that header", api),
	}
	for i := range table {
		table[i] = table[i].Mark("refused with `docker`: not available yet").Within("tenants")
	}
	return table
}

func otelKeys(s *Settings) []conf.Key {
	v := &s.OTel
	var millis int
	interval := conf.Int("otel.export_interval_millis", &millis, 1000, 1<<30).Then(func() error { v.Interval = time.Duration(millis) * time.Millisecond; return nil })
	interval.Get = func() any { return v.Interval.Milliseconds() }
	table := []conf.Key{
		conf.Bool("otel.enabled", &v.Enabled).Describe("metrics are sent by OTLP; they can always be read at `server.admin_listen`", all),
		conf.String("otel.endpoint", &v.Endpoint, func(s string) error { return blankOr(webAddress)(strings.TrimSpace(s)) }).Conceal().Allow("URL").
			Describe("where they go; traces go where `OTEL_EXPORTER_OTLP_ENDPOINT` says", all),
		conf.String("otel.service_name", &v.ServiceName, nil).Describe("name of the service in them", all),
		interval.Describe("milliseconds between two", all),
	}
	for i := range table {
		table[i] = table[i].Mark(notYet)
	}
	return table
}

func checkTenants(s *Settings) error {
	l := s.loaded
	if !l.Present("tenants") {
		return nil
	}
	var mistakes []error
	if s.Tenants.Provider == "http" && s.Tenants.Endpoint == "" {
		mistakes = append(mistakes, l.Mistake("tenants.provider", "needs tenants.endpoint"))
	}
	if strings.TrimSpace(s.Server.APIKey.Reveal()) != "" {
		mistakes = append(mistakes, l.TableMistake("tenants", "does not go together with server.api_key: tenants have keys of their own"))
	}
	if s.Runtime.Type == RuntimeDocker {
		mistakes = append(mistakes, l.TableMistake("tenants", "tenants are not available yet; without them every key holder sees every sandbox"))
	}
	return errors.Join(mistakes...)
}
