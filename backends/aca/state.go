package aca

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Cloud is a connection to Azure, for what a backend does there beside running jobs.
type Cloud struct{ azure *azure }

// Connect finds the endpoints and the credential of a validated configuration; credential, if it is not nil, is used
// instead of azidentity's DefaultAzureCredential. It makes no call, except that with an EndpointURL it reads the cloud's
// description there.
func Connect(ctx context.Context, c Config, credential azcore.TokenCredential) (*Cloud, error) {
	a, err := openAzure(ctx, &c, credential)
	if err != nil {
		return nil, err
	}
	return &Cloud{a}, nil
}

// Credential is who we are.
func (c *Cloud) Credential() azcore.TokenCredential { return c.azure.credential }

// Options are those of every client.
func (c *Cloud) Options() azcore.ClientOptions { return c.azure.options() }

// Registry is a container registry of this cloud, by its login server.
func (c *Cloud) Registry(server string) *Registry { return &Registry{server: server, azure: c.azure} }

// publicStorage is the suffix of storage accounts in public Azure.
const publicStorage = "core.windows.net"

const stateScheme = "table://"

var tablePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,62}$`)

// TableURL is the address of the table that a state's setting means.
func (c *Cloud) TableURL(state string) string {
	account, table, short := strings.Cut(strings.TrimPrefix(state, stateScheme), "/")
	if !strings.HasPrefix(state, stateScheme) || !short {
		return state
	}
	return fmt.Sprintf("https://%s.table.%s/%s", account, c.azure.storage, table)
}

// StateProblem says what is wrong with a setting that names a table, and is empty if nothing is. No setting is none.
func StateProblem(state string) string {
	if state == "" {
		return ""
	}
	shown, _, _ := strings.Cut(redact(state), "?") // behind it might be a signature
	wrong := fmt.Sprintf("is %q, which is neither table://ACCOUNT/TABLE nor the https URL of a table", shown)
	path, short := strings.CutPrefix(state, stateScheme)
	account, table, _ := strings.Cut(path, "/")
	if !short {
		u, err := url.Parse(state)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return wrong
		}
		table = u.Path[strings.LastIndex(u.Path, "/")+1:]
	}
	switch {
	case table == "":
		return wrong
	case short && !accountPattern.MatchString(account):
		return fmt.Sprintf("is %q: %q is no name of a storage account", state, account)
	case !tablePattern.MatchString(table):
		return fmt.Sprintf("is %q: %q is no name of a table, which has 3 to 63 letters and digits and begins with a letter", state, table)
	}
	return ""
}
