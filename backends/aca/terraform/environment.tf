resource "azurerm_log_analytics_workspace" "this" {
  name                = "log-${local.stem}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_retention_days
  daily_quota_gb      = var.log_daily_quota_gb
  tags                = local.tags
}

resource "azurerm_container_app_environment" "this" {
  name                           = "cae-${local.stem}"
  resource_group_name            = azurerm_resource_group.this.name
  location                       = azurerm_resource_group.this.location
  logs_destination               = "log-analytics"
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.this.id # the ARM id here; the backend wants the GUID
  infrastructure_subnet_id       = azurerm_subnet.jobs.id
  internal_load_balancer_enabled = var.internal_load_balancer
  tags                           = local.tags

  # Azure chooses a name if none is given, and the provider then wants to make the environment anew.
  infrastructure_resource_group_name = "rg-${local.stem}-platform"

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  dynamic "workload_profile" {
    for_each = var.gpu_profile == null ? [] : [var.gpu_profile]
    content {
      name                  = "gpu"
      workload_profile_type = workload_profile.value
    }
  }

  # The subnet must not change under an environment that is being made.
  depends_on = [azurerm_subnet_network_security_group_association.jobs]
}
