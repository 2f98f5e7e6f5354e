package doctor

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless/backends/aca"
)

// environmentName is the environment's name, however it is set.
func (p *patient) environmentName() string { return path.Base(p.config.EnvironmentID()) }

// environmentGroup is its resource group, which need not be that of the jobs.
func (p *patient) environmentGroup() string {
	return strings.Split(strings.Trim(p.config.EnvironmentID(), "/"), "/")[3]
}

func checkEnvironment(ctx context.Context, p *patient) Finding {
	name := p.environmentName()
	if err := p.readEnvironment(ctx); err != nil {
		err = aca.Explain(err, "read environment %s of resource group %s", name, p.environmentGroup())
		switch httpStatus, _ := status(err); httpStatus {
		case http.StatusNotFound:
			return fail("%v: set SOCKERLESS_ACA_SUBSCRIPTION_ID, SOCKERLESS_ACA_RESOURCE_GROUP and SOCKERLESS_ACA_ENVIRONMENT to where it is (terraform output -raw backend_env)", err)
		case http.StatusForbidden:
			return fail("%v: run the backend as its own identity, or give this one its roles (the module's backend_principals)%s", err, newRole)
		}
		return fail("%v", err)
	}
	e := p.environment
	if e.Properties == nil || e.Properties.ProvisioningState == nil || e.Location == nil {
		p.environment = nil
		return fail("Azure does not tell the state of environment %s", name)
	}
	domain := ""
	if d := e.Properties.DefaultDomain; d != nil {
		domain = ", domain " + *d
	}
	location := strings.ToLower(strings.ReplaceAll(*e.Location, " ", ""))
	switch state := *e.Properties.ProvisioningState; {
	case location != p.config.Location:
		return fail("environment %s is in %s, and jobs would be made in %s: set SOCKERLESS_ACA_LOCATION=%s", name, location, p.config.Location, location)
	case state == armappcontainers.EnvironmentProvisioningStateSucceeded:
		return ok("%s in %s is %s%s", name, location, state, domain)
	case state == armappcontainers.EnvironmentProvisioningStateFailed, state == armappcontainers.EnvironmentProvisioningStateCanceled,
		state == armappcontainers.EnvironmentProvisioningStateUpgradeFailed, state == armappcontainers.EnvironmentProvisioningStateScheduledForDelete:
		return fail("environment %s is %s%s, and takes no jobs: the portal says why; terraform apply -replace makes it anew", name, state, domain)
	default:
		return warn("environment %s is %s%s: wait until it is Succeeded, some minutes at most", name, state, domain)
	}
}

// readEnvironment reads the environment, and Azure's clock by the way.
func (p *patient) readEnvironment(ctx context.Context) error {
	id, err := arm.ParseResourceID(p.config.EnvironmentID())
	if err != nil {
		return err
	}
	client, err := armappcontainers.NewManagedEnvironmentsClient(id.SubscriptionID, p.cloud.Credential(), p.armOptions())
	if err != nil {
		return err
	}
	var answer *http.Response
	asked := time.Now()
	got, err := client.Get(policy.WithCaptureResponse(ctx, &answer), id.ResourceGroupName, id.Name, nil)
	p.readClock(answer, asked, time.Now())
	if err == nil {
		p.environment = &got.ManagedEnvironment
	}
	return err
}

// readClock compares an answer's Date, of whole seconds, with when it was given.
func (p *patient) readClock(answer *http.Response, asked, got time.Time) {
	if answer == nil {
		return
	}
	at, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return
	}
	p.told = true
	switch earliest, latest := asked.Add(-time.Second), got; {
	case at.Before(earliest):
		p.skew = at.Sub(earliest)
	case at.After(latest):
		p.skew = at.Sub(latest)
	}
}

// How far this machine's clock may be from Azure's. Tokens and leases count on the first, starts on the second: what began
// in Azure before it was asked for is not the start's.
const (
	skewSeen = 10 * time.Second
	skewMost = 2 * time.Minute
)

func checkClock(_ context.Context, p *patient) Finding {
	if !p.told {
		return warn("Azure has not told its time: see environment")
	}
	direction := "behind"
	if p.skew < 0 {
		direction = "ahead of"
	}
	skew := p.skew.Abs().Round(10 * time.Second)
	switch {
	case p.skew.Abs() > skewMost:
		return fail("this machine's clock is %v %s Azure's, and from %v on tokens and executions are taken for old or for new ones: set it (timedatectl set-ntp true)", skew, direction, skewMost)
	case p.skew.Abs() > skewSeen:
		return warn("this machine's clock is %v %s Azure's: set it (timedatectl set-ntp true)", skew, direction)
	}
	return ok("this machine's clock is within %v of Azure's", skewSeen)
}

// cores is what one small container takes.
const cores = 0.5

func checkQuota(ctx context.Context, p *patient) Finding {
	usage, err := p.aca.Usage(ctx)
	if err != nil {
		if httpStatus, _ := status(err); httpStatus == http.StatusForbidden {
			return warn("%v: give %s the role Container Apps ManagedEnvironments Contributor on the environment, for docker info too", err, p.who)
		}
		return fail("%v", err)
	}
	for _, u := range usage {
		if name := strings.ToLower(u.Name); !strings.Contains(name, "consumption") || !strings.Contains(name, "cores") {
			continue
		}
		switch left := u.Limit - u.Used; {
		case left < cores:
			return fail("%g of %g cores of environment %s are in use, so no container starts: remove some, or ask for more (portal, Quotas, Azure Container Apps)", u.Used, u.Limit, p.environmentName())
		case left < u.Limit/10:
			return warn("%g of %g cores of environment %s are in use: ask for more in time (portal, Quotas, Azure Container Apps)", u.Used, u.Limit, p.environmentName())
		default:
			return ok("%g of %g cores are in use", u.Used, u.Limit)
		}
	}
	return warn("Azure does not tell how many cores environment %s may have: see the portal, Quotas, Azure Container Apps", p.environmentName())
}
