resource "azurerm_container_registry" "this" {
  name                = "acr${var.project_name}${var.environment}${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = var.acr_sku
  admin_enabled       = false # everybody comes with an identity
  tags                = local.tags
}
