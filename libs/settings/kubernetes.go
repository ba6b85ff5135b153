package settings

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/conf"
)

// Kubernetes is the section of that runtime. It is checked; no process starts with it yet.
type Kubernetes struct {
	KubeconfigPath        string
	Insecure              bool
	Namespace             string
	Resync, WatchTimeout  time.Duration
	ReadQPS, WriteQPS     float64
	ReadBurst, WriteBurst int
	WorkloadProvider      string
	BatchTemplateFile     string
	CreateTimeout         time.Duration
	PoolTimeout           time.Duration
	PollInterval          time.Duration
	InitLimits, InitReqs  map[string]string
	ImagePullPolicy       string
	FastPathEndpoint      string
	FastPathTimeout       time.Duration
	FastPathWait          time.Duration
	FastPathPool          string
	TemplatePublishSecret string
	AgentTemplateFile     string
	AgentShutdown         string
	AgentIngress          bool
}

// What makes the pods of sandboxes.
const (
	providerBatch = "batchsandbox"
	providerAgent = "agent-sandbox"
	providerPod   = "pod"
)

func kubernetesKeys(s *Settings, home string) []conf.Key {
	v := &s.Kubernetes
	table := []conf.Key{
		pathOrNone("kubernetes.kubeconfig_path", &v.KubeconfigPath, home).Describe("file with the address of the cluster; empty: that of the pod that the process runs in", agent),
		conf.Bool("kubernetes.insecure_skip_tls_verify", &v.Insecure).Describe("the cluster's certificate is not checked", agent),
		conf.String("kubernetes.namespace", &v.Namespace, blankOr(dnsLabel)).Allow("name of a namespace").Describe("where sandboxes are made", agent),
		conf.Seconds("kubernetes.informer_resync_seconds", &v.Resync, 1, 1<<20).Describe("how often everything is read again", agent),
		conf.Seconds("kubernetes.informer_watch_timeout_seconds", &v.WatchTimeout, 1, 1<<20).Describe("how long one watch lasts", agent),
		conf.Float("kubernetes.read_qps", &v.ReadQPS, 0, false).Describe("reads per second; 0: no bound", agent),
		conf.Int("kubernetes.read_burst", &v.ReadBurst, 0, 1<<20).Describe("reads at once; 0: follows from the rate", agent),
		conf.Float("kubernetes.write_qps", &v.WriteQPS, 0, false).Describe("writes per second; 0: no bound", agent),
		conf.Int("kubernetes.write_burst", &v.WriteBurst, 0, 1<<20).Describe("writes at once; 0: follows from the rate", agent),
		conf.Enum("kubernetes.workload_provider", &v.WorkloadProvider, "", providerBatch, providerAgent, providerPod).Allow("batchsandbox, agent-sandbox, pod, empty").
			Describe("what makes the pods; empty: `batchsandbox` if the cluster has it, else `pod`, which needs no operator", agent),
		pathOrNone("kubernetes.batchsandbox_template_file", &v.BatchTemplateFile, home).Describe("what every BatchSandbox begins with", agent),
		conf.Seconds("kubernetes.sandbox_create_timeout_seconds", &v.CreateTimeout, 1, 1<<20).Describe("how long a create waits for its pod", agent),
		conf.Seconds("kubernetes.pool_acquisition_timeout_seconds", &v.PoolTimeout, 1, 1<<20).Describe("how long a create waits for a pod of a pool", agent),
		conf.FloatSeconds("kubernetes.sandbox_create_poll_interval_seconds", &v.PollInterval, 0, true).Describe("how often a pod is looked at meanwhile", agent),
		conf.Texts("kubernetes.execd_init_resources.limits", &v.InitLimits, amountOfResource).Describe("what the container that delivers the daemon may use", agent),
		conf.Texts("kubernetes.execd_init_resources.requests", &v.InitReqs, amountOfResource).Describe("what the container that delivers the daemon reserves", agent),
		conf.Enum("kubernetes.image_pull_policy", &v.ImagePullPolicy, "IfNotPresent", "Always", "Never").Describe("when images are pulled", agent),
		conf.String("kubernetes.fastpath_endpoint", &v.FastPathEndpoint, nil).Describe("fast-sandbox back end, which this server does not use", agent),
		conf.Seconds("kubernetes.fastpath_timeout_seconds", &v.FastPathTimeout, 1, 1<<20).Describe("seconds for a call of that back end", agent),
		conf.Seconds("kubernetes.fastpath_wait_ready_seconds", &v.FastPathWait, 1, 1<<20).Describe("how long that back end may take for a create", agent),
		conf.String("kubernetes.fastpath_resource_pool", &v.FastPathPool, nil).Describe("pool of that back end", agent),
		conf.String("kubernetes.template_s3_publish_secret", &v.TemplatePublishSecret, filled).Describe("Secret with which templates are published", agent),
		pathOrNone("agent_sandbox.template_file", &v.AgentTemplateFile, home).Describe("what every Sandbox object begins with", agent),
		conf.Enum("agent_sandbox.shutdown_policy", &v.AgentShutdown, "Delete", "Retain").Describe("what becomes of the Sandbox object at the end", agent),
		conf.Bool("agent_sandbox.ingress_enabled", &v.AgentIngress).Describe("sandboxes are reached through the controller's ingress", agent),
	}
	for i := range table {
		section, _, _ := strings.Cut(table[i].Name, ".")
		table[i] = table[i].Mark(notYet).Within(section)
	}
	for _, name := range []string{"informer_enabled", "service_account", "snapshot_create_timeout_seconds"} {
		table = append(table, conf.Ignored("kubernetes."+name, "has no effect: OpenSandbox 1.1.1 dropped it"))
	}
	return table
}

func defaultKubernetes() Kubernetes {
	return Kubernetes{
		Resync: 300 * time.Second, WatchTimeout: time.Minute, CreateTimeout: time.Minute, PoolTimeout: 30 * time.Second, PollInterval: time.Second, ImagePullPolicy: "IfNotPresent",
		FastPathEndpoint: "fast-sandbox-fastpath.opensandbox.svc:9090", FastPathTimeout: 30 * time.Second, FastPathWait: 30 * time.Second, FastPathPool: "default-pool",
		TemplatePublishSecret: "sandbox-oss-credentials", AgentShutdown: "Delete", AgentIngress: true,
	}
}

func checkKubernetes(s *Settings) error {
	l := s.loaded
	var mistakes []error
	if s.Runtime.Type == RuntimeDocker {
		for _, table := range []string{"kubernetes", "agent_sandbox"} {
			if l.Present(table) {
				mistakes = append(mistakes, l.TableMistake(table, `does not go together with runtime.type = "docker"`))
			}
		}
		return errors.Join(mistakes...)
	}
	if l.Present("agent_sandbox") && s.Kubernetes.WorkloadProvider != providerAgent {
		mistakes = append(mistakes, l.TableMistake("agent_sandbox", `needs kubernetes.workload_provider = "agent-sandbox"`))
	}
	return errors.Join(mistakes...)
}

var (
	resourceName     = regexp.MustCompile(`^([a-z0-9.-]+/)?[a-z0-9A-Z]([a-z0-9A-Z_.-]*[a-z0-9A-Z])?$`)
	quantityPattern  = regexp.MustCompile(`^([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?$`)
	dnsLabelPattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	subdomainPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// amountOfResource checks a pair of a Kubernetes resource list.
func amountOfResource(name, value string) error {
	known := name == "cpu" || name == "memory" || name == "ephemeral-storage" || strings.HasPrefix(name, "hugepages-") || strings.Contains(name, "/")
	if !known || !resourceName.MatchString(name) || strings.HasPrefix(name, "requests.") {
		return errors.New("expected cpu, memory, ephemeral-storage, hugepages-SIZE or DOMAIN/NAME")
	}
	if n := amountOf(value); math.IsNaN(n) || n < 0 || math.IsInf(n, 0) {
		return errors.New(`expected an amount such as "500m" or "1Gi"`)
	}
	return nil
}

// amountOf reads a Kubernetes quantity, as a number that is good enough to compare; NaN if it is none.
func amountOf(s string) float64 {
	m := quantityPattern.FindStringSubmatch(s)
	if m == nil {
		return math.NaN()
	}
	n, err := strconv.ParseFloat(m[1]+m[2], 64)
	if err != nil && !math.IsInf(n, 0) {
		return math.NaN()
	}
	unit, binary := strings.CutSuffix(m[3], "i")
	if i := strings.Index("num", unit); unit != "" && i >= 0 {
		return n * math.Pow(1000, float64(i-3))
	}
	base := 1000.0
	if binary {
		base = 1024
	}
	if unit == "" {
		return n
	}
	return n * math.Pow(base, float64(1+strings.Index("KMGTPE", strings.ToUpper(unit))))
}

func dnsLabel(s string) error {
	if !dnsLabelPattern.MatchString(s) {
		return errors.New("expected lower-case letters, digits and -, at most 63")
	}
	return nil
}

func subdomain(s string) error {
	if len(s) > 253 || !subdomainPattern.MatchString(s) {
		return fmt.Errorf("expected lower-case letters, digits, - and dots, at most %d", 253)
	}
	return nil
}

// pathOrNone binds a path that may be empty.
func pathOrNone(name string, to *string, home string) conf.Key {
	return conf.String(name, to, nil).Then(func() error { *to = expand(*to, home); return nil }).Allow("path; ~/ is the home directory")
}
