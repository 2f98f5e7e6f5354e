package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/tablestore"
)

func hasState(o *Options) bool { return o.State != "" }

// checkState reads, changes and deletes an entity that is not there. The table itself is made by the backend.
func checkState(ctx context.Context, p *patient) Finding {
	address := p.cloud.TableURL(p.opt.State)
	table, err := tablestore.NewClient(address, p.cloud.Credential(), p.cloud.Options())
	if err != nil {
		return fail("%v", err)
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
