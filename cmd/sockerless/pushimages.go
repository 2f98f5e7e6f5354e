package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/programs"
)

// imagesFolder is where make images puts them, beside this program.
const imagesFolder = "images"

// pushImages serves `sockerless push-images`: what it prints are lines of a .tfvars file.
func pushImages(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var config aca.Config
	server := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		server, args = args[0], args[1:]
	}
	dir := ""
	flags := flag.NewFlagSet("sockerless push-images ACR", flag.ContinueOnError)
	flags.StringVar(&dir, "images", "", "`folder` of the images, as make images leaves it (default: "+imagesFolder+" beside this program)")
	settings := aca.NewSettings(flags)
	config.CloudSettings(settings)
	wrong := settings.Load(os.Getenv)
	done, err := parse(flags, args, stdout, "Pushes the images of backend and agent into a registry, such as name.azurecr.io,\n"+
		"and prints their references as variables of the Terraform module. Credentials are those of the backend: go doc ./backends/aca.")
	if done || err != nil {
		return err
	}
	if wrong != nil {
		return usageError{wrong}
	}
	if server != "" {
		config.Registry = server
	}
	if config.Registry == "" {
		return usageError{errors.New("no registry given (see sockerless push-images --help)")}
	}
	if err := config.ValidateCloud(); err != nil {
		return usageError{err}
	}
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("cannot find the images, name them with -images: %w", err)
		}
		dir = filepath.Join(filepath.Dir(self), imagesFolder)
	}
	images, err := programs.ReadLayout(dir)
	if err != nil {
		return err
	}
	cloud, err := aca.Connect(ctx, config, nil)
	if err != nil {
		return err
	}
	registry := cloud.Registry(config.Registry)
	for _, image := range images {
		reference, pushed, err := registry.Push(ctx, image.Repository, image.Image)
		if err != nil {
			return err
		}
		what := "was there"
		if pushed {
			what = "pushed"
		}
		fmt.Fprintf(stderr, "%s: %s\n", image.Repository, what)
		variable := map[string]string{programs.AgentRepository: "agent_image", programs.BackendRepository: "backend_image"}[image.Repository]
		fmt.Fprintf(stdout, "%-13s = %q\n", variable, reference)
	}
	return nil
}
