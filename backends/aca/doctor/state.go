package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/sockerless/sockerless/backends/aca"
)

func hasState(o *Options) bool { return o.State != "" }

// checkState reads, changes and deletes an entity that is not there. The table itself is made by the backend.
func checkState(ctx context.Context, p *patient) Finding {
	address := p.cloud.TableURL(p.opt.State)
	options := p.cloud.Options()
	services := maps.Clone(options.Cloud.Services)
	if services == nil {
		services = map[cloud.ServiceName]cloud.ServiceConfiguration{}
	}
	if _, known := services[aztables.ServiceName]; !known { // one for all storage
		services[aztables.ServiceName] = cloud.ServiceConfiguration{Audience: "https://storage.azure.com"}
	}
	options.Cloud.Services = services
	table, err := aztables.NewClient(address, p.cloud.Credential(), &aztables.ClientOptions{ClientOptions: options})
	if err != nil {
		return fail("cannot open table %s: %v", address, err)
	}
	entity, err := json.Marshal(map[string]string{"PartitionKey": p.probe, "RowKey": p.probe})
	if err != nil {
		return fail("%v", err)
	}
	exists := true
	for _, try := range []func() error{
		func() error { _, err := table.GetEntity(ctx, p.probe, p.probe, nil); return err },
		func() error { _, err := table.UpdateEntity(ctx, entity, nil); return err },
		func() error { _, err := table.DeleteEntity(ctx, p.probe, p.probe, nil); return err },
	} {
		err := try()
		switch httpStatus, code := status(err); {
		case httpStatus == http.StatusNotFound:
			exists = exists && code != string(aztables.TableNotFound)
		case httpStatus == http.StatusForbidden:
			return fail("%v: give %s the role Storage Table Data Contributor on the storage account, and let this machine through its firewall%s", aca.Explain(err, "use table %s", address), p.who, newRole)
		case err == nil:
			err = errors.New("it has an entity that nobody has made")
			fallthrough
		default:
			return fail("%v", aca.Explain(err, "use table %s", address))
		}
	}
	if !exists {
		return ok("the backend makes table %s when it starts", address)
	}
	return ok("table %s can be read and written", address)
}
