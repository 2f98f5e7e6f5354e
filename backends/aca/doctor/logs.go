package doctor

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// workspaceVersion is an api-version of Log Analytics' workspaces.
const workspaceVersion = "2022-10-01"

func checkLogs(ctx context.Context, p *patient) Finding {
	const set = "set SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE"
	workspace := p.config.Workspace
	if workspace == "" {
		return warn("no workspace is set, so output that the backend has lost is lost: %s (terraform output -raw log_analytics_workspace_id)", set)
	}
	customer := workspace
	if strings.HasPrefix(workspace, "/") {
		var read struct {
			Properties struct {
				CustomerID string `json:"customerId"`
			} `json:"properties"`
		}
		if err := p.call(ctx, http.MethodGet, workspace, workspaceVersion, nil, &read); err != nil {
			return fail("%v: %s to that of the environment, with the role Log Analytics Reader on it (terraform output -raw log_analytics_workspace_id)",
				aca.Explain(err, "read workspace %s", workspace), set)
		}
		customer = read.Properties.CustomerID
	}
	written, destination := p.destination()
	switch {
	case p.environment == nil: // its own check has said why
	case destination == "":
		return warn("environment %s writes no logs, so output that the backend has lost is lost: link it to a workspace (az containerapp env update --logs-destination log-analytics)", p.environmentName())
	case destination == "log-analytics" && !strings.EqualFold(written, customer):
		return fail("environment %s writes to workspace %s, and %s is asked: %s=%s", p.environmentName(), written, customer, set, written)
	}
	// What no job has written is asked for: it costs nothing, and takes the same right.
	for _, err := range p.aca.Logs(ctx, driver.Run{Job: p.probe}, time.Now().Add(-time.Minute)) {
		if refused, is := errors.AsType[*azcore.ResponseError](err); is {
			err = aca.Explain(refused, "query workspace %s", customer) // which job was asked for says nothing
		}
		if httpStatus, _ := status(err); httpStatus == http.StatusForbidden {
			return fail("%v: give %s the role Log Analytics Reader on the workspace%s", err, p.who, newRole)
		}
		if err != nil {
			return fail("%v", err)
		}
	}
	if destination == "azure-monitor" {
		return ok("workspace %s can be read; environment %s writes by diagnostic settings, which do not say here where to", customer, p.environmentName())
	}
	return ok("workspace %s is the environment's, and can be read", customer)
}

// destination is where the environment writes: what kind of place, and the workspace's id if it is one.
func (p *patient) destination() (workspace, kind string) {
	if p.environment == nil || p.environment.Properties.AppLogsConfiguration == nil {
		return "", ""
	}
	c := p.environment.Properties.AppLogsConfiguration
	if c.Destination != nil && *c.Destination != "none" {
		kind = *c.Destination
	}
	if l := c.LogAnalyticsConfiguration; l != nil && l.CustomerID != nil {
		workspace = *l.CustomerID
		if kind == "" {
			kind = "log-analytics"
		}
	}
	return workspace, kind
}
