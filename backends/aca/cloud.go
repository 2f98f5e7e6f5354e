package aca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/query/azlogs"

	"github.com/sockerless/sockerless/backends/aca/attempt"
)

// azure is one cloud: its endpoints, how to reach them, and who we are there.
type azure struct {
	name       string // as the cloud calls itself
	cloud      cloud.Configuration
	storage    string // the suffix of storage accounts' names
	public     bool
	plain      bool // some endpoints have plain http; they are on loopback: checkEndpoint
	http       *http.Client
	credential azcore.TokenCredential
}

// openAzure finds the endpoints and makes the credential; credential, if it is not nil, is used instead of
// DefaultAzureCredential. With an EndpointURL it asks there for the cloud's description, else it makes no call.
func openAzure(ctx context.Context, c *Config, credential azcore.TokenCredential) (*azure, error) {
	client, err := httpClient(c.CAFile)
	if err != nil {
		return nil, err
	}
	a := &azure{name: "AzureCloud", cloud: cloud.AzurePublic, storage: publicStorage, public: true, http: client, credential: credential}
	if c.EndpointURL != "" {
		a.public = false
		d, err := describe(ctx, client, c.EndpointURL)
		if err == nil {
			a.name, a.storage = d.Name, d.Suffixes.Storage
			a.cloud, err = d.configuration()
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the cloud's description from SOCKERLESS_ENDPOINT_URL %s: %w", c.EndpointURL, err)
		}
		for _, service := range a.cloud.Services {
			a.plain = a.plain || strings.HasPrefix(service.Endpoint, "http:")
		}
	}
	if a.credential == nil {
		a.credential, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: a.options(),
			// The public instance discovery knows no other clouds.
			DisableInstanceDiscovery: !a.public,
		})
		if err != nil {
			return nil, fmt.Errorf("cannot find credentials for Azure: %s", oneLine(err.Error()))
		}
	}
	return a, nil
}

// tryTimeout bounds one attempt of one request. Azure Resource Manager answers within a minute or not at all.
const tryTimeout = time.Minute

// options are those of every client of this cloud.
func (a *azure) options() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:                           a.cloud,
		Transport:                       a.http,
		Retry:                           policy.RetryOptions{TryTimeout: tryTimeout},
		PerRetryPolicies:                []policy.Policy{attempt.OwnBody{}},
		Telemetry:                       policy.TelemetryOptions{ApplicationID: "sockerless"},
		InsecureAllowCredentialWithHTTP: a.plain,
	}
}

func (a *azure) arm() *arm.ClientOptions {
	return &arm.ClientOptions{
		ClientOptions: a.options(),
		// Registering Microsoft.App is the owner's to do: it takes minutes and a right that a backend should not have.
		DisableRPRegistration: true,
	}
}

// httpClient trusts the system's authorities and those of caFile.
func httpClient(caFile string) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32
	if caFile != "" {
		pool, err := authorities(caFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: t,
		// No API used here redirects, and a token must not follow where somebody else points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// authorities are the system's and those of a PEM file.
func authorities(caFile string) (*x509.CertPool, error) {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, &SettingError{"SOCKERLESS_CA_FILE", "ca-file", "cannot be read: " + err.Error()}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, &SettingError{"SOCKERLESS_CA_FILE", "ca-file", fmt.Sprintf("is %s, which holds no PEM certificate", caFile)}
	}
	return pool, nil
}

// description is what /metadata/endpoints answers, as far as it is used here.
type description struct {
	Name            string `json:"name"`
	ResourceManager string `json:"resourceManager"`
	Authentication  struct {
		LoginEndpoint string   `json:"loginEndpoint"`
		Audiences     []string `json:"audiences"`
	} `json:"authentication"`
	LogAnalyticsResourceID string `json:"logAnalyticsResourceId"`
	Suffixes               struct {
		Storage string `json:"storage"`
	} `json:"suffixes"`
}

// describe asks a cloud for its name and endpoints, as Azure's own tools do (api-version 2022-09-01).
func describe(ctx context.Context, client *http.Client, endpoint string) (d description, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metadata/endpoints?api-version=2022-09-01", nil)
	if err != nil {
		return d, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return d, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return d, fmt.Errorf("the answer is %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("the answer is no description of a cloud: %w", err)
	}
	return d, nil
}

func (d *description) configuration() (cloud.Configuration, error) {
	for what, u := range map[string]string{"resourceManager": d.ResourceManager, "authentication.loginEndpoint": d.Authentication.LoginEndpoint} {
		if err := checkEndpoint(u); err != nil {
			return cloud.Configuration{}, fmt.Errorf("its %s: %w", what, err)
		}
	}
	if len(d.Authentication.Audiences) == 0 {
		return cloud.Configuration{}, fmt.Errorf("it names no authentication.audiences")
	}
	manager := strings.TrimSuffix(d.ResourceManager, "/")
	audience := strings.TrimSuffix(d.Authentication.Audiences[0], "/")
	if slices.ContainsFunc(d.Authentication.Audiences, func(a string) bool { return strings.TrimSuffix(a, "/") == manager }) {
		audience = manager
	}
	c := cloud.Configuration{
		ActiveDirectoryAuthorityHost: d.Authentication.LoginEndpoint,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: manager, Audience: audience},
		},
	}
	if logs := strings.TrimSuffix(d.LogAnalyticsResourceID, "/"); logs != "" {
		if err := checkEndpoint(logs); err != nil {
			return cloud.Configuration{}, fmt.Errorf("its logAnalyticsResourceId: %w", err)
		}
		c.Services[azlogs.ServiceName] = cloud.ServiceConfiguration{Endpoint: logs + "/v1", Audience: logs}
	}
	return c, nil
}

// insecure says whether a registry is reached by plain http: one on loopback, as the simulator's.
func insecure(registry string) bool {
	u, err := url.Parse("//" + registry)
	return err == nil && loopback(u.Hostname())
}
