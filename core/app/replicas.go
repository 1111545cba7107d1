package app

import (
	"context"

	"github.com/galleychat/galley/core/redis"
	"github.com/galleychat/galley/core/replicas"
)

// What processes tell one another: whose account or groups have changed, so that nothing of before is kept.
const (
	userMethod   = "user"
	groupsMethod = "groups"
)

// openReplicas has the process know of the others that serve the same installation.
func (a *App) openReplicas() error {
	ws := a.Env.WebSocket
	switch ws.Manager {
	case "redis":
	case "":
		return nil
	default:
		a.Log.Warn("only redis connects several processes: sockets and running tasks are of this one", "variable", "WEBSOCKET_MANAGER", "value", ws.Manager)
		return nil
	}
	e := a.Env.Redis
	e.URL, e.Cluster, e.SentinelHosts, e.SentinelPort = ws.RedisURL, ws.RedisCluster, ws.SentinelHosts, ws.SentinelPort
	bus, err := redis.OpenBus(e, a.Log)
	if err != nil {
		return &SettingError{Err: err}
	}
	if bus == nil {
		a.Log.Warn("without WEBSOCKET_REDIS_URL or REDIS_URL sockets and running tasks are of this process", "variable", "WEBSOCKET_MANAGER")
		return nil
	}
	a.Replicas = replicas.New(bus, a.Log)
	a.parts = append(a.parts, a.Replicas)
	a.Users.OnChange(func(userID string) { a.Replicas.Tell("", userMethod, []byte(userID)) })
	a.Replicas.Handle(userMethod, func(_ context.Context, _ string, userID []byte) ([]byte, error) {
		a.Sessions.Forget(string(userID))
		return nil, nil
	})
	// before the sessions are told, who have pages connect anew
	a.Access.Groups().OnChange(func(userIDs []string) { a.Replicas.Tell("", groupsMethod, replicas.Join(userIDs...)) })
	a.Replicas.Handle(groupsMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		var userIDs []string
		for _, id := range replicas.Split(body) {
			userIDs = append(userIDs, string(id))
		}
		a.Access.Forget(userIDs...)
		return nil, nil
	})
	a.Log.Info("Redis connects this process with others that serve the same installation")
	return nil
}
