// Command az stands in for the Azure CLI where the walk-through uses it: the commands that are there, against the cloud that
// ARM_METADATA_HOSTNAME names, signed in as the application of ARM_CLIENT_ID, ARM_CLIENT_SECRET and ARM_TENANT_ID. It asks
// the endpoints that the Azure CLI asks, but for the directory's own (Microsoft Graph), which the simulator has not: who is
// signed in it reads in the token.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func main() {
	out, err := run(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
		os.Exit(1)
	}
	fmt.Print(out)
}

const manager = "https://management.azure.com"

// byTag is the one query that is evaluated on a list.
var byTag = regexp.MustCompile(`^\[\?tags\."([^"]+)"=='([^']*)'\]\.name$`)

func run(ctx context.Context, args []string) (string, error) {
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	command := strings.Join(args[:words], " ")
	flags := flag.NewFlagSet("az "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var group, query, output, resource string
	for _, f := range []struct {
		to    *string
		names []string
	}{{&group, []string{"g", "resource-group"}}, {&query, []string{"query"}}, {&output, []string{"o", "output"}}, {&resource, []string{"resource"}}} {
		for _, name := range f.names {
			flags.StringVar(f.to, name, "", "")
		}
	}
	if err := flags.Parse(args[words:]); err != nil || flags.NArg() > 0 {
		return "", fmt.Errorf("unrecognized arguments: %s", strings.Join(args, " "))
	}
	c, err := open(ctx)
	if err != nil {
		return "", err
	}
	if command == "login" {
		return c.login(ctx)
	}
	if _, err := os.Stat(profile()); err != nil {
		return "", errors.New("please run 'az login' to setup account")
	}
	switch command {
	case "account show":
		return c.show(ctx, query, output)
	case "account get-access-token":
		token, until, err := c.token(ctx, resource)
		if err != nil {
			return "", err
		}
		return encode(map[string]any{"accessToken": token, "expires_on": until.Unix(), "expiresOn": until.Format("2006-01-02 15:04:05.000000"),
			"tenant": c.tenant, "tokenType": "Bearer"})
	case "ad signed-in-user show":
		if query != "id" || output != "tsv" {
			return "", errors.New("only --query id -o tsv is known here")
		}
		return c.user(ctx)
	case "containerapp job list":
		return c.jobs(ctx, group, query)
	}
	return "", fmt.Errorf("'%s' is misspelled or not known here", command)
}

// profile is the file that says that somebody has signed in.
func profile() string { return filepath.Join(os.Getenv("HOME"), ".azure", "signed-in") }

// cloud is an Azure, and who asks it.
type cloud struct {
	manager, signIn    string
	tenant, id, secret string
}

func open(ctx context.Context) (*cloud, error) {
	var c cloud
	for name, to := range map[string]*string{"ARM_TENANT_ID": &c.tenant, "ARM_CLIENT_ID": &c.id, "ARM_CLIENT_SECRET": &c.secret} {
		if *to = os.Getenv(name); *to == "" {
			return nil, fmt.Errorf("%s is not set", name)
		}
	}
	var description struct {
		ResourceManager string `json:"resourceManager"`
		Authentication  struct {
			LoginEndpoint string `json:"loginEndpoint"`
		} `json:"authentication"`
	}
	err := ask(ctx, http.MethodGet, "https://"+os.Getenv("ARM_METADATA_HOSTNAME")+"/metadata/endpoints?api-version=2022-09-01", "", nil, &description)
	c.manager, c.signIn = description.ResourceManager, description.Authentication.LoginEndpoint
	return &c, err
}

// ask makes one request, again while there are too many; form, if there is one, is its body.
func ask(ctx context.Context, method, address, token string, form url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && resp.StatusCode == http.StatusTooManyRequests {
		time.Sleep(time.Duration(wait) * time.Second)
		return ask(ctx, method, address, token, form, answer)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, raw)
	}
	return json.Unmarshal(raw, answer)
}

func (c *cloud) token(ctx context.Context, resource string) (string, time.Time, error) {
	if resource == "" {
		resource = manager
	}
	resource = strings.TrimSuffix(strings.TrimSuffix(resource, "/.default"), "/")
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	err := ask(ctx, http.MethodPost, c.signIn+"/"+c.tenant+"/oauth2/v2.0/token", "", url.Values{"grant_type": {"client_credentials"},
		"client_id": {c.id}, "client_secret": {c.secret}, "scope": {resource + "/.default"}}, &answer)
	return answer.AccessToken, time.Now().Add(time.Duration(answer.ExpiresIn) * time.Second), err
}

// get asks Resource Manager.
func (c *cloud) get(ctx context.Context, path string, answer any) error {
	token, _, err := c.token(ctx, manager)
	if err != nil {
		return err
	}
	return ask(ctx, http.MethodGet, c.manager+path, token, nil, answer)
}

type subscription struct {
	ID       string `json:"subscriptionId"`
	Name     string `json:"displayName"`
	TenantID string `json:"tenantId"`
	State    string `json:"state"`
}

// subscriptions lists what the signed-in application may see.
func (c *cloud) subscriptions(ctx context.Context) ([]map[string]any, error) {
	var list struct{ Value []subscription }
	if err := c.get(ctx, "/subscriptions?api-version=2022-12-01", &list); err != nil {
		return nil, err
	}
	all := []map[string]any{}
	for i, s := range list.Value {
		all = append(all, map[string]any{"id": s.ID, "name": s.Name, "tenantId": s.TenantID, "state": s.State, "isDefault": i == 0})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no subscriptions found for %s", c.id)
	}
	return all, nil
}

func (c *cloud) login(ctx context.Context) (string, error) {
	all, err := c.subscriptions(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(profile()), 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(profile(), []byte(c.id), 0o600); err != nil {
		return "", err
	}
	return encode(all)
}

func (c *cloud) show(ctx context.Context, query, output string) (string, error) {
	all, err := c.subscriptions(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case query == "" && (output == "" || output == "json"):
		return encode(all[0])
	case query == "id" && output == "tsv":
		return fmt.Sprintln(all[0]["id"]), nil
	}
	return "", errors.New("only --query id -o tsv is known here")
}

func (c *cloud) user(ctx context.Context) (string, error) {
	token, _, err := c.token(ctx, manager)
	if err != nil {
		return "", err
	}
	var claims struct {
		jwt.RegisteredClaims
		ObjectID string `json:"oid"`
	}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil { // the cloud verifies it
		return "", err
	}
	return claims.ObjectID + "\n", nil
}

func (c *cloud) jobs(ctx context.Context, group, query string) (string, error) {
	tag := byTag.FindStringSubmatch(query)
	if group == "" || tag == nil {
		return "", errors.New("only -g GROUP --query \"[?tags.\\\"TAG\\\"=='VALUE'].name\" is known here")
	}
	all, err := c.subscriptions(ctx)
	if err != nil {
		return "", err
	}
	names := []string{}
	path := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.App/jobs?api-version=2025-01-01", all[0]["id"], url.PathEscape(group))
	for path != "" {
		var page struct {
			Value []struct {
				Name string
				Tags map[string]string
			}
			NextLink string
		}
		if err := c.get(ctx, path, &page); err != nil {
			return "", err
		}
		for _, j := range page.Value {
			if j.Tags[tag[1]] == tag[2] {
				names = append(names, j.Name)
			}
		}
		path = strings.TrimPrefix(page.NextLink, c.manager)
	}
	return encode(names)
}

func encode(v any) (string, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	return string(raw) + "\n", err
}
