package settings

// heading is what a section is about, in the languages of the examples.
type heading struct{ english, chinese string }

// sectionTexts are the headings of all sections that need one.
var sectionTexts = map[string]heading{
	"server":                          {"The API and what all listeners have in common.", "API，以及所有监听器的共同设置。"},
	"log":                             {"The log.", "日志。"},
	"runtime":                         {"What runs the sandboxes.", "运行沙箱的方式。"},
	"docker":                          {"The Docker engine, which DOCKER_HOST and the other variables of Docker's clients name.", "Docker 引擎，由 DOCKER_HOST 等 Docker 客户端的环境变量指定。"},
	"storage":                         {"What sandboxes may mount.", "沙箱可以挂载的内容。"},
	"store":                           {"Where the records of sandboxes are kept.", "沙箱记录的存放位置。"},
	"proxy":                           {"The server's own proxy of sandbox ports.", "服务器自带的沙箱端口代理。"},
	"ingress":                         {"How traffic reaches sandboxes.", "流量到达沙箱的方式。"},
	"ingress.gateway":                 {"A gateway in front of the sandboxes; needs ingress.mode = \"gateway\".", "沙箱前的网关；需要 ingress.mode = \"gateway\"。"},
	"ingress.gateway.route":           {"", ""},
	"ingress.secure_access":           {"Signed addresses; the section alone switches them on.", "签名地址；只要有这一节就启用。"},
	"renew_intent":                    {"Renewals on access.", "访问时续期。"},
	"renew_intent.redis":              {"Intents to renew from other gateways.", "来自其他网关的续期意图。"},
	"egress":                          {"Outbound rules of sandboxes.", "沙箱的出站规则。"},
	"egress.upstream_proxy":           {"A proxy between sandboxes and the world; needs egress.mode = \"dns+nft\".", "沙箱与外界之间的代理；需要 egress.mode = \"dns+nft\"。"},
	"secure_runtime":                  {"Runtimes that isolate more than the engine's own.", "隔离更强的运行时。"},
	"tenants":                         {"Users who do not see each other's sandboxes; the section alone switches them on.", "互相看不到对方沙箱的租户；只要有这一节就启用。"},
	"otel":                            {"Metrics that are sent.", "主动发送的指标。"},
	"router":                          {"The router of user traffic.", "用户流量的路由器。"},
	"scheduler":                       {"Placement and node loss.", "沙箱的放置与节点丢失。"},
	"scheduler.default_request":       {"", ""},
	"agent":                           {"The node.", "节点。"},
	"internal":                        {"What the split services share.", "拆分部署的各服务共用的内容。"},
	"kubernetes":                      {"The cluster; with runtime.type = \"kubernetes\".", "集群；用于 runtime.type = \"kubernetes\"。"},
	"kubernetes.execd_init_resources": {"", ""},
	"agent_sandbox":                   {"The agent-sandbox controller; with kubernetes.workload_provider = \"agent-sandbox\".", "agent-sandbox 控制器；用于 kubernetes.workload_provider = \"agent-sandbox\"。"},
}
