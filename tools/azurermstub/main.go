// Command azurermstub is a Terraform provider that knows the schema of hashicorp/azurerm and does nothing else.
//
// With it `make terraform-check` validates our module and runs its tests in seconds, where the real provider takes a
// quarter of an hour to build. It serves recorded schemas, the files that AZURERM_SCHEMA lists as PATH lists folders. It
// finds attributes and blocks that azurerm does not have, that are missing or of another type, and no more: which values
// azurerm takes is not in a schema, so the module's own validations have to know that.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "azurermstub: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var recorded struct {
		Provider  schema            `json:"provider"`
		Resources map[string]schema `json:"resource_schemas"`
	}
	for _, file := range filepath.SplitList(os.Getenv("AZURERM_SCHEMA")) { // a later one adds to those before
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read a schema that AZURERM_SCHEMA names: %w", err)
		}
		if err := json.Unmarshal(raw, &recorded); err != nil {
			return fmt.Errorf("cannot read the schema %s: %w", file, err)
		}
	}
	s := &server{schemas: &tfprotov5.GetProviderSchemaResponse{
		ServerCapabilities: &tfprotov5.ServerCapabilities{GetProviderSchemaOptional: true},
		ResourceSchemas:    map[string]*tfprotov5.Schema{},
	}}
	var err error
	if s.schemas.Provider, err = recorded.Provider.served(); err != nil {
		return err
	}
	for name, r := range recorded.Resources {
		if s.schemas.ResourceSchemas[name], err = r.served(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return tf5server.Serve("registry.terraform.io/hashicorp/azurerm", func() tfprotov5.ProviderServer { return s })
}

// server is the provider. What validate and mocked tests do not ask for is the nil interface's, and ends the program.
type server struct {
	tfprotov5.ProviderServer
	schemas *tfprotov5.GetProviderSchemaResponse
}

// GetProviderSchema implements tfprotov5.ProviderServer.
func (s *server) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return s.schemas, nil
}

// GetResourceIdentitySchemas implements tfprotov5.ProviderServer: there are none.
func (s *server) GetResourceIdentitySchemas(context.Context, *tfprotov5.GetResourceIdentitySchemasRequest) (*tfprotov5.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov5.GetResourceIdentitySchemasResponse{}, nil
}

// PrepareProviderConfig implements tfprotov5.ProviderServer.
func (s *server) PrepareProviderConfig(_ context.Context, r *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: r.Config}, nil
}

// ValidateResourceTypeConfig implements tfprotov5.ProviderServer: Terraform itself has held the resource to the schema.
func (s *server) ValidateResourceTypeConfig(context.Context, *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	return &tfprotov5.ValidateResourceTypeConfigResponse{}, nil
}

// StopProvider implements tfprotov5.ProviderServer: nothing runs that could be stopped.
func (s *server) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}

// schema is what `terraform providers schema -json` prints of a resource.
type schema struct {
	Version int64 `json:"version"`
	Block   block `json:"block"`
}

type block struct {
	Attributes map[string]struct {
		Type      json.RawMessage `json:"type"`
		Required  bool            `json:"required"`
		Optional  bool            `json:"optional"`
		Computed  bool            `json:"computed"`
		Sensitive bool            `json:"sensitive"`
		WriteOnly bool            `json:"write_only"`
	} `json:"attributes"`
	Blocks map[string]struct {
		Nesting string `json:"nesting_mode"`
		Block   block  `json:"block"`
		Min     int64  `json:"min_items"`
		Max     int64  `json:"max_items"`
	} `json:"block_types"`
}

var nestings = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov5.SchemaNestedBlockNestingModeList,
	"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
}

func (s schema) served() (*tfprotov5.Schema, error) {
	b, err := s.Block.served()
	return &tfprotov5.Schema{Version: s.Version, Block: b}, err
}

func (b block) served() (*tfprotov5.SchemaBlock, error) {
	served := &tfprotov5.SchemaBlock{}
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		a := b.Attributes[name]
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // SA1019: deprecated as no provider's business; it is this one's only
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		served.Attributes = append(served.Attributes, &tfprotov5.SchemaAttribute{Name: name, Type: kind, Required: a.Required,
			Optional: a.Optional, Computed: a.Computed, Sensitive: a.Sensitive, WriteOnly: a.WriteOnly})
	}
	for _, name := range slices.Sorted(maps.Keys(b.Blocks)) {
		nested := b.Blocks[name]
		nesting, ok := nestings[nested.Nesting]
		if !ok {
			return nil, fmt.Errorf("block %s: unknown nesting %q", name, nested.Nesting)
		}
		inner, err := nested.Block.served()
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", name, err)
		}
		served.BlockTypes = append(served.BlockTypes, &tfprotov5.SchemaNestedBlock{TypeName: name, Nesting: nesting, Block: inner,
			MinItems: nested.Min, MaxItems: nested.Max})
	}
	return served, nil
}
