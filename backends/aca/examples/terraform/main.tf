# The walk-through of README.md: all the infrastructure of Sockerless, by one apply.

terraform {
  required_version = ">= 1.5"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }
}

provider "azurerm" {
  # ARM_SUBSCRIPTION_ID says which subscription.
  features {}

  # A new subscription knows none of these; registering what is registered does nothing.
  resource_provider_registrations = "none"
  resource_providers_to_register = [
    "Microsoft.App",
    "Microsoft.ContainerRegistry",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.Storage",
  ]
}

module "sockerless" {
  source = "../../terraform"

  location           = var.location
  project_name       = var.project_name
  environment        = var.environment
  name_suffix        = var.name_suffix
  backend_principals = var.backend_principals
  callback_url       = var.callback_url
  deploy_backend     = var.deploy_backend
  backend_image      = var.backend_image
  agent_image        = var.agent_image
}
