package settings

import "opensandbox/libs/conf"

// simplifiedChinese are the texts of the examples whose names end in -zh.
var simplifiedChinese = words{
	title: "opensandbox-server 的配置文件。# 后面不带空格的键没有设置，写的是默认值，或可供填写的格式。\n" +
		"每个键都有一个优先于本文件的环境变量。--check-config 一次列出所有错误；--print-config 显示实际生效的配置。",
	about:   func(k conf.Key) string { return chinese[k.Name] },
	section: func(name string) string { return sectionTexts[name].chinese },
	allowed: "取值：", fallback: "默认：", variable: "环境变量：", ours: "OpenSandbox 1.1.1 没有此项", notYet: "尚未生效", comma: "；", stop: "。",
	mine: func(s string) string {
		if t, ok := chinesePhrases[s]; ok {
			return t
		}
		return s
	},
}

// chinesePhrases are the forms of values that are not said in words of the file itself.
var chinesePhrases = map[string]string{
	"text": "文本", "path; ~/ is the home directory": "路径；~/ 表示用户主目录", "array of texts": "文本数组", "table of texts": "文本表", "absolute path": "绝对路径",
	"array of absolute paths": "绝对路径数组", "IPv4 address": "IPv4 地址", "bridge, host, name of a network": "bridge、host 或网络名称", "host:port": "主机:端口",
	"host:port, empty": "主机:端口，或留空", "host name, IP address": "主机名或 IP 地址", "letters, digits, .-_": "字母、数字和 .-_", "name of a profile, empty": "配置名称，或留空",
	"absolute path, JSON, builtin, unconfined, empty": "绝对路径、JSON、builtin、unconfined，或留空", "array of src:dst or src:dst:mode": "由 src:dst 或 src:dst:mode 组成的数组",
	"16 characters or more": "至少 16 个字符", "at least 0": "不小于 0", "above 0": "大于 0", "name of a namespace": "命名空间名称", "name of a Secret": "Secret 名称",
	"http:// or https:// host, with a port": "http:// 或 https:// 加主机，可带端口", "array of { key_id, key }": "由 { key_id, key } 组成的数组",
	"batchsandbox, agent-sandbox, pod, empty": "batchsandbox、agent-sandbox、pod，或留空", "empty, gvisor, kata, firecracker": "留空、gvisor、kata 或 firecracker",
	"derived": "自动推导", "built in": "内置", "host name": "主机名", "nine": "见下一行", "4 × processors of the engine": "引擎处理器数的 4 倍",
	"127.0.0.1:9090; split services 9091 (api), 9092 (scheduler), 9093 (agent), 9094 (router)": "127.0.0.1:9090；拆分部署时依次为 9091（api）、9092（scheduler）、9093（agent）、9094（router）",
	"~/logs/opensandbox/server.log; split services api.log …":                                  "~/logs/opensandbox/server.log；拆分部署时为 api.log 等",
}

// chinese is what each key means.
var chinese = map[string]string{
	"server.host":                        "API 监听的地址；没有配置文件时为 127.0.0.1",
	"server.port":                        "API 监听的端口",
	"server.api_key":                     "客户端在 OPEN-SANDBOX-API-KEY 请求头中发送的密钥；环境变量存在但为空时表示不使用密钥。没有密钥时，只有设置 OPENSANDBOX_INSECURE_SERVER=YES 才能启动",
	"server.eip":                         "客户端访问沙箱时使用的主机，用于它与服务器自身地址不同的情况",
	"server.max_sandbox_timeout_seconds": "创建沙箱时允许的最长 timeout（秒）；续期不受限制",
	"server.timeout_keep_alive":          "空闲连接保持的秒数",
	"server.limit_concurrency":           "同时处理的请求数，超出时返回 503；0 表示不限",
	"server.timeout_graceful_shutdown":   "收到 SIGTERM 后，正在处理的请求最多还可使用的秒数",
	"server.backlog":                     "等待被接受的连接数；内核以 net.core.somaxconn 为上限",
	"server.drain_delay_seconds":         "收到 SIGTERM 后继续服务的秒数，期间 /health 和 /ready 返回 503，让负载均衡器先行切走",
	"server.create_wait_seconds":         "创建请求等待沙箱进入 Running 的秒数，应小于 SDK 的 30 秒",
	"server.failed_retention_seconds":    "创建失败的沙箱对持有其 id 的客户端可见的秒数",
	"server.admin_listen":                "/metrics（Prometheus）、/health 和 /ready 的监听地址；留空表示关闭",
	"server.installation_id":             "在同一引擎上区分本安装与其他安装的标识；同一安装的所有进程须相同",

	"log.level":             "写入日志的最低级别",
	"log.format":            "日志格式",
	"log.file_enabled":      "日志写入文件而不是标准错误；收到 SIGHUP 时重新打开文件",
	"log.file_path":         "日志文件；同一台机器上的多个进程应各用各的文件",
	"log.access_file_path":  "访问日志文件，每个请求一行",
	"log.file_max_bytes":    "文件达到此字节数后轮转",
	"log.file_backup_count": "保留的旧文件个数；0 表示文件一直增长，由其他工具移走",

	"runtime.type": "运行沙箱的方式。kubernetes 的各节会被检查，但目前还不能以它启动",

	"docker.network_mode":         "沙箱的网络：bridge、host（同一时间只有一个沙箱，使用节点的全部端口），或引擎上已有网络的名称（OpenSandbox 1.1.1 默认为 host）",
	"docker.api_timeout":          "每次调用引擎的超时秒数",
	"docker.pull_timeout_seconds": "拉取镜像的超时秒数",
	"docker.max_concurrency":      "同时进行的创建和删除数",
	"docker.publish_host":         "沙箱端口发布到的地址",
	"docker.port_range_min":       "可发布的第一个端口",
	"docker.port_range_max":       "可发布的最后一个端口，至少比第一个大 99（共 100 个端口）",
	"docker.host_ip":              "服务器自身在容器中运行时，提供给客户端的主机",
	"docker.drop_capabilities":    "沙箱不拥有的 Linux capabilities",
	"docker.allowed_runtimes":     "创建时可通过 extensions[\"node.runtime\"] 选择的隔离运行时，例如 runsc",
	"docker.no_new_privileges":    "沙箱不能通过 setuid 程序获得更多权限",
	"docker.apparmor_profile":     "沙箱使用的 AppArmor 配置，须已加载到节点内核；留空则使用引擎自己的",
	"docker.seccomp_profile":      "沙箱使用的 seccomp 配置：节点上的文件（引擎的 JSON 格式）、JSON 本身、builtin 或 unconfined；留空则使用引擎自己的",
	"docker.pids_limit":           "每个沙箱的进程数上限",
	"docker.sandbox_env":          "每个沙箱都有的环境变量，写作 NAME = \"value\"；创建请求中的同名变量优先",
	"docker.sandbox_binds":        "每个沙箱都挂载的内容：src 是节点上的路径或卷名，dst 是沙箱内的路径，mode 是 ro、rw 或引擎的其他选项",

	"storage.allowed_host_paths":  "创建请求可以挂载的节点目录及其子目录；留空则不允许挂载主机目录",
	"storage.volume_default_size": "Kubernetes 创建的卷的默认大小",
	"storage.ossfs_mount_root":    "节点上挂载存储桶的目录",

	"store.type":      "sqlite 用于单机；拆分部署需要 redis。没有 OpenSandbox 1.1.1 的 postgresql",
	"store.path":      "SQLite 文件；本安装的密钥保存在同一目录",
	"store.redis_url": "Redis 的地址；store.type 为 redis 时必填",
	"store.durable":   "使用 redis 时，客户端请求的更改在落盘并复制到副本之后才返回",

	"proxy.resolve_internal": "服务器代理直接访问容器地址；false 则访问其发布的端口，用于服务器无法访问容器地址的引擎",

	"ingress.mode":                     "客户端直接访问沙箱所在节点，还是经过网关",
	"ingress.gateway.address":          "网关主机；wildcard 模式下写作 *. 加域名",
	"ingress.gateway.route.mode":       "请求以何种方式指明目标沙箱",
	"ingress.secure_access.active_key": "签发新地址所用密钥的编号",
	"ingress.secure_access.keys":       "签名地址的密钥：key_id 是 0-9 或 a-z 中的一个字符，key 是 base64；环境变量中写作 id=base64,…",

	"renew_intent.enabled":                    "访问沙箱时自动续期，仅对创建时提出要求的沙箱有效",
	"renew_intent.min_interval_seconds":       "同一沙箱两次续期之间的最短秒数",
	"renew_intent.redis.enabled":              "通过 Redis 列表传递续期意图，其他网关也可写入；否则使用记录旁边的列表",
	"renew_intent.redis.dsn":                  "该 Redis 的地址；renew_intent.redis.enabled 为 true 时必填",
	"renew_intent.redis.queue_key":            "列表的名称",
	"renew_intent.redis.consumer_concurrency": "同时进行的续期数",

	"egress.image":                         "执行网络策略的边车镜像",
	"egress.mode":                          "只过滤域名，还是同时过滤地址",
	"egress.disable_ipv6":                  "带策略的沙箱不使用 IPv6",
	"egress.otlp_endpoint":                 "边车遥测数据的去向",
	"egress.readiness_timeout_seconds":     "创建请求等待边车就绪的秒数",
	"egress.requests":                      "Kubernetes 中边车容器预留的资源",
	"egress.limits":                        "Kubernetes 中边车容器的资源上限",
	"egress.upstream_proxy.url":            "所有放行流量经过的代理",
	"egress.upstream_proxy.authorization":  "发送给该代理的 Proxy-Authorization",
	"egress.upstream_proxy.ca_cert_path":   "该代理的证书颁发机构：节点上的文件",
	"egress.upstream_proxy.ca_secret_name": "该代理的证书颁发机构：Secret 中的 ca.crt",

	"secure_runtime.type":              "所有沙箱的隔离方式；docker.allowed_runtimes 让创建请求自行选择",
	"secure_runtime.docker_runtime":    "该运行时在引擎中的名称",
	"secure_runtime.k8s_runtime_class": "该运行时在 Kubernetes 中的 RuntimeClass",

	"tenants.provider":          "租户及其密钥的来源；只要有这一节就启用多租户",
	"tenants.endpoint":          "provider 为 http 时询问的地址",
	"tenants.max_stale_seconds": "无人应答时旧答案继续有效的秒数",
	"tenants.timeout_seconds":   "一次询问的超时秒数",
	"tenants.auth_header":       "表明询问者身份的请求头",
	"tenants.auth_token":        "该请求头的值",

	"otel.enabled":                "通过 OTLP 发送指标；任何时候都可以在 server.admin_listen 读取指标",
	"otel.endpoint":               "指标的去向；链路追踪的去向由 OTEL_EXPORTER_OTLP_ENDPOINT 决定",
	"otel.service_name":           "指标中的服务名",
	"otel.export_interval_millis": "两次发送之间的毫秒数",

	"router.listen": "访问沙箱端口的用户流量的监听地址；没有配置文件时为 127.0.0.1，单一程序中与 server.host 相同",

	"scheduler.placement_wait_seconds":  "创建请求等待空位的秒数",
	"scheduler.default_request.cpu":     "没有 resourceRequests 的沙箱预留的处理器",
	"scheduler.default_request.memory":  "没有 resourceRequests 的沙箱预留的内存",
	"scheduler.node_lost_after_seconds": "节点失联多少秒后放弃其上的沙箱；scheduler 与 agent 须相同",

	"agent.node":            "本节点的名称，任何两个 agent 不得同名",
	"agent.state_dir":       "本节点的锁和意图镜像所在的目录",
	"agent.execd_path":      "沙箱中使用的另一个守护程序",
	"agent.host":            "客户端访问本节点已分配端口时使用的主机",
	"agent.listen":          "供 api 实时读取的内部 HTTP 接口，由 internal.shared_secret 保护；单一程序不打开它",
	"agent.max_sandboxes":   "本节点的沙箱数上限，0 表示不限；旧名为 scheduler.max_sandboxes",
	"agent.capacity_cpu":    "本节点可预留的处理器；留空表示不限",
	"agent.capacity_memory": "本节点可预留的内存；留空表示不限",
	"agent.labels":          "关于本节点的标签，写作 name = \"value\"；环境变量中写作 name=value,…",

	"internal.shared_secret": "拆分部署的各服务之间互相出示的密钥；api 和 agent 必填，单一程序使用 redis 时也必填；所有进程须相同",

	"kubernetes.kubeconfig_path":                      "集群地址所在的文件；留空则使用进程所在 pod 的集群",
	"kubernetes.insecure_skip_tls_verify":             "不检查集群的证书",
	"kubernetes.namespace":                            "创建沙箱的命名空间",
	"kubernetes.informer_resync_seconds":              "重新读取全部对象的间隔秒数",
	"kubernetes.informer_watch_timeout_seconds":       "一次 watch 持续的秒数",
	"kubernetes.read_qps":                             "每秒读取次数；0 表示不限",
	"kubernetes.read_burst":                           "同时读取的次数；0 表示由速率决定",
	"kubernetes.write_qps":                            "每秒写入次数；0 表示不限",
	"kubernetes.write_burst":                          "同时写入的次数；0 表示由速率决定",
	"kubernetes.workload_provider":                    "创建 pod 的方式；留空时，集群有 batchsandbox 就用它，否则用不需要 operator 的 pod",
	"kubernetes.batchsandbox_template_file":           "每个 BatchSandbox 的模板",
	"kubernetes.sandbox_create_timeout_seconds":       "创建请求等待 pod 的秒数",
	"kubernetes.pool_acquisition_timeout_seconds":     "创建请求等待池中 pod 的秒数",
	"kubernetes.sandbox_create_poll_interval_seconds": "等待期间查看 pod 的间隔秒数",
	"kubernetes.execd_init_resources.limits":          "投放守护程序的容器的资源上限",
	"kubernetes.execd_init_resources.requests":        "投放守护程序的容器预留的资源",
	"kubernetes.image_pull_policy":                    "何时拉取镜像",
	"kubernetes.fastpath_endpoint":                    "fast-sandbox 后端，本服务器不使用",
	"kubernetes.fastpath_timeout_seconds":             "每次调用该后端的超时秒数",
	"kubernetes.fastpath_wait_ready_seconds":          "创建时等待该后端的秒数",
	"kubernetes.fastpath_resource_pool":               "该后端的资源池",
	"kubernetes.template_s3_publish_secret":           "发布模板所用的 Secret",

	"agent_sandbox.template_file":   "每个 Sandbox 对象的模板",
	"agent_sandbox.shutdown_policy": "沙箱结束后 Sandbox 对象的去留",
	"agent_sandbox.ingress_enabled": "通过控制器的 ingress 访问沙箱",
}
