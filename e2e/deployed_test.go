package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// deployment is a backend in Azure, as the Terraform module makes it.
type deployment struct {
	owner     *owner
	url       string // of the backend
	tokenFile string // for frontends
	app       map[string]any
}

// azure [simulator flags]: starts the simulator alone, and sets what it tells.
func cmdAzure(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	ts.Check(m.startSimulator(args))
	for k, v := range m.sim.env {
		ts.Setenv(k, v)
	}
}

// deploy FILE REVISION: runs the backend as a container app, of the image that FILE, which push-images has printed, names. It
// returns when that revision has the traffic. The next frontend is one on a laptop.
func cmdDeploy(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	image := ""
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); strings.TrimSpace(name) == "backend_image" {
			image = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	if m.deployed == nil {
		ts.Check(m.prepareDeployment(image))
	}
	ts.Check(m.deploy(args[1]))
	ts.Setenv("DOCKER_HOST", "unix://"+m.socket)
}

// giveRights assigns what the module assigns to the backend, on the resources of the session's Azure.
func (m *machine) giveRights(principal string) error {
	all, err := moduleRights()
	if err != nil {
		return err
	}
	own := map[string]string{ // by type; azuresim.World has the names that are no settings
		"managedEnvironments": m.sim.env["SOCKERLESS_ACA_ENVIRONMENT"], "storageAccounts": m.sim.env["SOCKERLESS_ACA_STORAGE_ACCOUNT"],
		"registries": "sockerlesssim", "workspaces": "sockerless-logs", "userAssignedIdentities": "sockerless-pull",
	}
	for name, r := range all {
		if r.Principal != "backend" {
			continue
		}
		scope := m.groupPath()
		if _, resource, ok := strings.Cut(r.Scope, "/providers/"); ok {
			path := strings.Split(resource, "/")
			if own[path[1]] == "" {
				return fmt.Errorf("right %s is on one of %s, which the session has not", name, path[1])
			}
			path[2] = own[path[1]]
			scope += "/providers/" + strings.Join(path, "/")
		}
		if err := m.sim.assign(principal, r.Role, scope); err != nil {
			return err
		}
	}
	return nil
}

// moduleSettings are the names of what the module tells the backend that it deploys.
func moduleSettings() (names []string, err error) {
	raw, err := moduleFile("backend_env_deployed.sh")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		names = append(names, name)
	}
	return names, nil
}

func (m *machine) groupPath() string {
	return "/subscriptions/" + m.sim.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"] + "/resourceGroups/" + m.sim.env["SOCKERLESS_ACA_RESOURCE_GROUP"]
}

// prepareDeployment makes what is there before the app, and says what the app is.
func (m *machine) prepareDeployment(image string) error {
	group := m.groupPath()
	// Who runs Terraform owns the group.
	owner, err := m.sim.newOwner(group)
	if err != nil {
		return err
	}
	identityID := group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/backend"
	var identity struct {
		Properties struct{ PrincipalID, ClientID string }
	}
	if err := owner.call(http.MethodPut, identityID+"?api-version=2024-11-30", map[string]any{"location": m.sim.env["SOCKERLESS_ACA_LOCATION"]}, &identity); err != nil {
		return err
	}
	if err := m.giveRights(identity.Properties.PrincipalID); err != nil {
		return err
	}
	environmentID := group + "/providers/Microsoft.App/managedEnvironments/" + m.sim.env["SOCKERLESS_ACA_ENVIRONMENT"]
	var environment struct {
		Properties struct{ DefaultDomain string }
	}
	if err := owner.call(http.MethodGet, environmentID+"?api-version=2025-07-01", nil, &environment); err != nil {
		return err
	}
	var secret [32]byte
	rand.Read(secret[:])
	m.deployed = &deployment{owner: owner, url: "https://backend." + environment.Properties.DefaultDomain, tokenFile: filepath.Join(m.dir, "sockerless.token")}
	if err := os.WriteFile(m.deployed.tokenFile, []byte(hex.EncodeToString(secret[:])), 0o600); err != nil {
		return err
	}
	ca, err := os.ReadFile(m.sim.env["SOCKERLESS_CA_FILE"])
	if err != nil {
		return err
	}
	const caFile = "/run/azuresim/ca" // the simulator's authority is in nobody's list
	// What the module tells, with the session's values; and where this cloud is.
	values := map[string]string{"SOCKERLESS_CALLBACK_URL": m.deployed.url,
		"SOCKERLESS_STATE": "table://" + m.sim.env["SOCKERLESS_ACA_STORAGE_ACCOUNT"] + "/sockerless"}
	env := []map[string]any{{"name": "SOCKERLESS_TOKEN", "secretRef": "token"}, {"name": "AZURE_CLIENT_ID", "value": identity.Properties.ClientID}}
	names, err := moduleSettings()
	if err != nil {
		return err
	}
	for _, name := range names {
		if values[name] == "" {
			values[name] = m.sim.env[name]
		}
		if values[name] == "" {
			return fmt.Errorf("the module tells the backend %s, which the session has not", name)
		}
		env = append(env, map[string]any{"name": name, "value": values[name]})
	}
	for name, value := range map[string]string{"SOCKERLESS_ENDPOINT_URL": "https://host.azuresim.internal",
		"SOCKERLESS_CA_FILE": caFile, "SOCKERLESS_CALLBACK_CA_FILE": caFile, "SOCKERLESS_ACA_LINGER": "20s"} {
		env = append(env, map[string]any{"name": name, "value": value})
	}
	server, _, _ := strings.Cut(image, "/")
	m.deployed.app = map[string]any{
		"location": m.sim.env["SOCKERLESS_ACA_LOCATION"],
		"identity": map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{identityID: map[string]any{}}},
		"properties": map[string]any{
			"environmentId": environmentID,
			"configuration": map[string]any{
				"activeRevisionsMode": "Single",
				"ingress":             map[string]any{"external": true, "targetPort": 9100, "transport": "http"},
				"registries":          []any{map[string]any{"server": server, "identity": identityID}},
				"secrets": []any{map[string]any{"name": "token", "value": hex.EncodeToString(secret[:])},
					map[string]any{"name": "ca", "value": string(ca)}},
			},
			"template": map[string]any{
				"scale": map[string]any{"minReplicas": 1, "maxReplicas": 1},
				"containers": []any{map[string]any{"name": "backend", "image": image, "env": env,
					"resources":    map[string]any{"cpu": 0.5, "memory": "1Gi"},
					"volumeMounts": []any{map[string]any{"volumeName": "ca", "mountPath": filepath.Dir(caFile)}, map[string]any{"volumeName": "data", "mountPath": "/var/lib/sockerless"}}}},
				"volumes": []any{map[string]any{"name": "ca", "storageType": "Secret", "secrets": []any{map[string]any{"secretRef": "ca", "path": "ca"}}},
					map[string]any{"name": "data", "storageType": "EmptyDir"}},
			},
		},
	}
	return nil
}

// deploy puts the app as a revision of that name, and waits until it is the one that is asked.
func (m *machine) deploy(revision string) error {
	m.deployed.app["properties"].(map[string]any)["template"].(map[string]any)["revisionSuffix"] = revision
	path := m.groupPath() + "/providers/Microsoft.App/containerApps/backend?api-version=2025-07-01"
	if err := m.deployed.owner.call(http.MethodPut, path, m.deployed.app, nil); err != nil {
		return err
	}
	token, err := os.ReadFile(m.deployed.tokenFile)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var shown json.RawMessage
		if err := m.deployed.owner.call(http.MethodGet, path, nil, &shown); err != nil {
			return err
		}
		if bytes.Contains(shown, token) {
			return fmt.Errorf("the token is shown to whoever may read the app: %s", shown)
		}
		var app struct {
			Properties struct{ LatestReadyRevisionName string }
		}
		if err := json.Unmarshal(shown, &app); err != nil {
			return err
		}
		if app.Properties.LatestReadyRevisionName == "backend--"+revision {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("revision %s is not ready: %s", revision, m.revisions())
		}
	}
}

// revisions is what Azure says of the app's revisions.
func (m *machine) revisions() string {
	var all json.RawMessage
	if err := m.deployed.owner.call(http.MethodGet, m.groupPath()+"/providers/Microsoft.App/containerApps/backend/revisions?api-version=2025-07-01", nil, &all); err != nil {
		return err.Error()
	}
	return string(all)
}
