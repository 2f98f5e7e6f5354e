# Everything that Sockerless needs in Azure, in one resource group of its own.

locals {
  stem = "${var.project_name}-${var.environment}"

  # The names that must be unique in all of Azure end with what is the subscription's own, so that two people who follow the
  # same walk-through do not meet. It is always the same, so nothing is made anew.
  subscription_id = split("/", azurerm_resource_group.this.id)[2]
  suffix          = var.name_suffix == null ? substr(sha256(local.subscription_id), 0, 5) : var.name_suffix

  # Not managed-by=sockerless: that is the mark of what the backend makes and may delete.
  tags = merge(var.tags, {
    project     = var.project_name
    environment = var.environment
    managed-by  = "terraform"
  })
}

resource "azurerm_resource_group" "this" {
  name     = "rg-${local.stem}"
  location = var.location
  tags     = local.tags

  lifecycle {
    precondition {
      condition     = length("st${var.project_name}${var.environment}") + (var.name_suffix == null ? 5 : length(var.name_suffix)) <= 24
      error_message = "project_name, environment and name_suffix (5 characters if it is not set) are too long together: with st before them they are the storage account's name, which has at most 24 characters."
    }
  }
}
