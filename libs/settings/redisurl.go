package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"opensandbox/libs/conf"
)

// RedisMode says what stands behind the addresses of a RedisURL.
type RedisMode string

// The modes.
const (
	RedisSingle   RedisMode = "single"
	RedisSentinel RedisMode = "sentinel"
	RedisCluster  RedisMode = "cluster"
)

// RedisURL is how to reach a Redis. The zero value means none.
type RedisURL struct {
	Mode RedisMode
	// Addrs are host:port: one server, the sentinels, or some nodes of a cluster. Hosts of IPv6 stand in brackets.
	Addrs []string
	// MasterName is what the sentinels call the group of servers; empty in other modes.
	MasterName string
	// User and Password are for the data servers. User is empty for the default user.
	User     string
	Password conf.Secret
	// DB is the number of the database; always 0 on a cluster.
	DB  int
	TLS bool
}

// redisScheme is what a scheme stands for.
type redisScheme struct {
	mode RedisMode
	tls  bool
	port string
}

// Ports are the defaults of Redis and of its sentinels.
const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

var redisSchemes = map[string]redisScheme{
	"redis": {RedisSingle, false, redisPort}, "rediss": {RedisSingle, true, redisPort},
	"redis-sentinel": {RedisSentinel, false, sentinelPort}, "rediss-sentinel": {RedisSentinel, true, sentinelPort},
	"redis-cluster": {RedisCluster, false, redisPort}, "rediss-cluster": {RedisCluster, true, redisPort},
}

// Bounds of a URL: the address lists of real set-ups are far below, and Redis takes at most 2^31 databases but is never given that many.
const (
	maxRedisURL   = 4096
	maxRedisAddrs = 64
	maxRedisDB    = 65535
)

// ParseRedisURL reads one of
//
//	redis://[[user]:password@]host[:6379][/db]
//	redis-sentinel://[[user]:password@]host[:26379][,host…]/master[/db]
//	redis-cluster://[[user]:password@]host[:6379][,host…]
//
// and the same with rediss for TLS. Special characters of user and password are percent-encoded. Errors never repeat any part of the
// text, since a password may stand in the wrong place.
func ParseRedisURL(text string) (RedisURL, error) {
	name, rest, ok := strings.Cut(text, "://")
	scheme, known := redisSchemes[strings.ToLower(name)]
	switch {
	case len(text) > maxRedisURL:
		return RedisURL{}, fmt.Errorf("longer than %d characters", maxRedisURL)
	case !ok || !known:
		return RedisURL{}, errors.New("expected a URL that begins with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://")
	case strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' }):
		return RedisURL{}, errors.New("blanks, control characters and letters beyond ASCII must be percent-encoded")
	case strings.ContainsAny(rest, "?#"):
		return RedisURL{}, errors.New("no parameters are taken; ? and # in a password are written %3F and %23")
	}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") {
		return RedisURL{}, errors.New("@ behind the first slash; / and @ in a password are written %2F and %40")
	}
	u := RedisURL{Mode: scheme.mode, TLS: scheme.tls}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		if err := u.credentials(authority[:i]); err != nil {
			return RedisURL{}, err
		}
	}
	if err := u.addresses(hosts, scheme.port); err != nil {
		return RedisURL{}, err
	}
	if err := u.path(path); err != nil {
		return RedisURL{}, err
	}
	return u, nil
}

func (u *RedisURL) credentials(text string) error {
	user, password, ok := strings.Cut(text, ":")
	if !ok || password == "" {
		return errors.New("a user without a password; a password alone is written redis://:password@host")
	}
	if strings.ContainsAny(text, "@/[]\\^`{|}<>\"") || strings.Contains(password, ":") {
		return errors.New("user and password must be percent-encoded (: is %3A, @ is %40)")
	}
	user, err := url.PathUnescape(user)
	if err != nil {
		return errors.New("the user is not percent-encoded properly (% is %25)")
	}
	password, err = url.PathUnescape(password)
	if err != nil {
		return errors.New("the password is not percent-encoded properly (% is %25)")
	}
	u.User, u.Password = user, conf.NewSecret(password)
	return nil
}

func (u *RedisURL) addresses(text, port string) error {
	list := strings.Split(text, ",")
	switch {
	case len(list) > maxRedisAddrs:
		return fmt.Errorf("more than %d addresses", maxRedisAddrs)
	case len(list) > 1 && u.Mode == RedisSingle:
		return errors.New("redis:// and rediss:// take one address; several are for redis-sentinel:// and redis-cluster://")
	}
	for i, entry := range list {
		addr, err := redisAddr(entry, port)
		if err != nil {
			return fmt.Errorf("address %d of %d: %w", i+1, len(list), err)
		}
		if slices.Contains(u.Addrs, addr) {
			return fmt.Errorf("address %d of %d: named twice", i+1, len(list))
		}
		u.Addrs = append(u.Addrs, addr)
	}
	return nil
}

func redisAddr(entry, port string) (string, error) {
	host := entry
	if i := strings.LastIndexByte(entry, ':'); i > strings.LastIndexByte(entry, ']') {
		host, port = entry[:i], entry[i+1:]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("expected a port from 1 to 65535")
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !a.Is6() || a.Zone() != "" {
			return "", errors.New("expected an IPv6 address in brackets")
		}
		host = a.String()
	} else if err := hostName(host); err != nil {
		return "", err
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(n, 10)), nil
}

func (u *RedisURL) path(text string) error {
	master, db := "", text
	if u.Mode == RedisSentinel {
		master, db, _ = strings.Cut(text, "/")
		if !plainName(master) || len(master) > 128 {
			return errors.New("expected the name of the master behind the addresses, such as redis-sentinel://host/mymaster; letters, digits and .-_")
		}
	}
	u.MasterName = master
	if db == "" {
		return nil
	}
	n, err := strconv.ParseUint(db, 10, 32)
	if err != nil || n > maxRedisDB {
		return fmt.Errorf("expected the number of a database from 0 to %d at the end", maxRedisDB)
	}
	if n != 0 && u.Mode == RedisCluster {
		return errors.New("a cluster has database 0 only")
	}
	u.DB = int(n)
	return nil
}

// String writes the URL with its password masked.
func (u RedisURL) String() string {
	if u.Mode == "" {
		return ""
	}
	mask := ""
	if u.Password.IsSet() {
		// Of all escapes only this one covers : and @, with + for a blank.
		mask = strings.ReplaceAll(url.QueryEscape(u.User), "+", "%20") + ":" + conf.Mask + "@"
	}
	return u.write(mask)
}

func (u RedisURL) write(credentials string) string {
	scheme := "redis"
	if u.TLS {
		scheme = "rediss"
	}
	if u.Mode != RedisSingle {
		scheme += "-" + string(u.Mode)
	}
	s := scheme + "://" + credentials + strings.Join(u.Addrs, ",")
	if u.Mode == RedisSentinel {
		s += "/" + u.MasterName
	}
	if u.DB != 0 {
		s += "/" + strconv.Itoa(u.DB)
	}
	return s
}
