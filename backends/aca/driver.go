package aca

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless/driver"
)

// Driver runs containers as Container Apps jobs. It is a driver.LogReader, a driver.Explainer and a driver.Meter; what Open returns is a
// driver.Dialer too if the configuration says that agents are dialled.
type Driver struct {
	config     Config
	instance   string
	azure      *azure
	arm        *arm.Client
	jobs       *armappcontainers.JobsClient
	executions *armappcontainers.JobsExecutionsClient
	usages     *armappcontainers.ManagedEnvironmentUsagesClient
	logs       *logs
	registry   *Registry
	agent      *agentImage
	callbackCA string // PEM in base64, for agents
	every      time.Duration
	log        *slog.Logger

	// noDetails is set once Azure has refused the api-version that has exit codes.
	noDetails atomic.Bool
	// started maps a job and run to its execution, so that Runs needs no call for each job. Losing it costs calls only.
	started sync.Map
}

// Options are what Open needs beside the configuration.
type Options struct {
	// Instance tags the jobs; a driver touches no others. Required, at most 256 characters.
	Instance string
	// Credential is used instead of azidentity's DefaultAzureCredential.
	Credential azcore.TokenCredential
	// Cloud is the connection to use, of the same configuration; nil: Open makes one, with Credential.
	Cloud *Cloud
	// PollEvery is how often a long-running operation is asked for where Azure does not say; 1 s by default, and at least.
	PollEvery time.Duration
	// Logger gets what an operator may want to know; nil discards it.
	Logger *slog.Logger
}

// Open makes a driver for a validated configuration. It makes no call, except that with an EndpointURL it reads the
// cloud's description there.
func Open(ctx context.Context, c Config, o Options) (driver.Driver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Instance == "" || len(o.Instance) > 256 {
		return nil, fmt.Errorf("cannot open the driver: the instance's name has %d characters, not 1 to 256", len(o.Instance))
	}
	if o.PollEvery == 0 {
		o.PollEvery = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if o.Cloud == nil {
		if o.Cloud, err = Connect(ctx, c, o.Credential); err != nil {
			return nil, err
		}
	}
	cloud := o.Cloud.azure
	d := &Driver{config: c, instance: o.Instance, azure: cloud, every: o.PollEvery, log: o.Logger}
	if c.CallbackCAFile != "" {
		text, err := os.ReadFile(c.CallbackCAFile)
		if err != nil {
			return nil, &SettingError{"SOCKERLESS_CALLBACK_CA_FILE", "callback-ca-file", "cannot be read: " + err.Error()}
		}
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			return nil, &SettingError{"SOCKERLESS_CALLBACK_CA_FILE", "callback-ca-file", fmt.Sprintf("is %s, which holds no PEM certificate", c.CallbackCAFile)}
		}
		d.callbackCA = base64.StdEncoding.EncodeToString(text)
	}
	if d.arm, err = arm.NewClient("sockerless", "v1.0.0", cloud.credential, cloud.arm()); err != nil {
		return nil, fmt.Errorf("cannot open Azure Resource Manager: %w", err)
	}
	if d.jobs, err = armappcontainers.NewJobsClient(c.Subscription, cloud.credential, cloud.arm()); err != nil {
		return nil, fmt.Errorf("cannot open Azure Resource Manager: %w", err)
	}
	if d.executions, err = armappcontainers.NewJobsExecutionsClient(c.Subscription, cloud.credential, cloud.arm()); err != nil {
		return nil, fmt.Errorf("cannot open Azure Resource Manager: %w", err)
	}
	if d.usages, err = newUsages(cloud, c.EnvironmentID()); err != nil {
		return nil, fmt.Errorf("cannot open Azure Resource Manager: %w", err)
	}
	d.logs = openLogs(cloud, c.Workspace)
	d.registry = &Registry{server: c.Registry, azure: cloud}
	d.agent = newAgentImage(&c, d.registry, o.Logger)
	if c.forward() {
		return &Dialler{Driver: d, names: newNames(c.Resolver)}, nil
	}
	return d, nil
}

// Close drops idle connections. The driver can be used on; closing it again is no error.
func (d *Driver) Close() error {
	d.azure.http.CloseIdleConnections()
	return nil
}

// Registry returns the configured registry, for whoever pulls from it and pushes to it.
func (d *Driver) Registry() *Registry { return d.registry }

// startGrace is generous: images are pulled for each start, and 7 GB were seen to take five minutes
// (microsoft/azure-container-apps#1111).
const startGrace = 10 * time.Minute

// Info describes where jobs run. It makes no call.
func (d *Driver) Info() driver.Info {
	mode := "reverse: agents dial " + d.config.CallbackURL + AgentRoute
	if d.config.forward() {
		mode = "forward: the backend dials {execution}:" + agentPort
	}
	details := map[string]string{
		"Subscription": d.config.Subscription, "Resource group": d.config.ResourceGroup,
		"Environment": d.config.Environment, "Location": d.config.Location, "Agent mode": mode,
	}
	for name, value := range map[string]string{
		"Registry": d.config.Registry, "Log Analytics workspace": d.config.Workspace,
		"Storage account": d.config.StorageAccount, "Endpoint": d.config.EndpointURL,
	} {
		if value != "" {
			details[name] = value
		}
	}
	return driver.Info{Name: "aca", Cloud: d.azure.name, Instance: d.instance, Details: details, StartGrace: startGrace}
}

// patience is how a long-running operation is awaited: azcore's own default is one poll in 30 s.
func (d *Driver) patience() *runtime.PollUntilDoneOptions {
	return &runtime.PollUntilDoneOptions{Frequency: d.every}
}
